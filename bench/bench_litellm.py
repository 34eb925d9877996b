"""LiteLLM's proxy beside the node: one engine, one load, interleaved series, with and without streaming.

The proxy forwards; the node also asks who pays, reserves, signs twice and books each answer durably.
"""

import tempfile
from pathlib import Path
from statistics import quantiles

from tests.processes import NodeProcess

from bench.load import question, refused, steady
from bench.memory import rss_mb
from bench.proxy import Unavailable, litellm_proxy
from bench.result import Result, measured, skipped
from tirami.testing import EngineProcess

ROUNDS, RATE, SECONDS = 15, 20, 3
KINDS = {"whole": False, "streamed": True}
Figures = dict[tuple[str, str], list[tuple[float, float]]]


async def run() -> list[Result]:
    env = {"TIRAMI_API_RATE_PER_SECOND": "100000"}
    with EngineProcess() as engine, tempfile.TemporaryDirectory() as home:
        with NodeProcess(Path(home) / "node", "--upstream", engine.url, "--log-level", "warning", env=env) as node:
            try:
                async with litellm_proxy(engine.url, "tirami-testing") as (url, key, pid):
                    figures = await _interleaved({"node": (f"{node.url}/v1", "local"), "LiteLLM": (url, key)})
                    memory = {"node": rss_mb(node.process.pid), "LiteLLM": rss_mb(pid)}
            except Unavailable as error:
                return [skipped("beside LiteLLM's proxy", str(error))]
    return [*_results(figures), *(measured(f"memory after that load, {who}", [mb], "MB") for who, mb in memory.items())]


async def _interleaved(servers: dict[str, tuple[str, str]]) -> Figures:
    """p50 and p99 of whole answers, of each series by server and kind; one round before is thrown away.

    ``servers``: base URL and key by name.
    """
    figures: Figures = {(who, kind): [] for who in servers for kind in KINDS}
    for round_ in range(ROUNDS + 1):
        for who in sorted(servers, reverse=bool(round_ % 2)):
            for kind, stream in KINDS.items():
                url, key = servers[who]
                timings = await steady(url, question(stream=stream), RATE, SECONDS, key)
                if count := refused(timings):
                    raise Unavailable(f"{who} refused {count} of {len(timings)} requests")
                cuts = quantiles([timing.whole for timing in timings], n=100)
                if round_:
                    figures[who, kind].append((cuts[49], cuts[98]))
    return figures


def _results(figures: Figures) -> list[Result]:
    results = []
    for kind in KINDS:
        for place, percentile in enumerate(("p50", "p99")):
            of = {who: [cuts[place] for cuts in figures[who, kind]] for who in ("node", "LiteLLM")}
            name = f"{kind} answer of 8 tokens at {RATE} requests/s, {percentile}"
            results += [measured(f"{name}, {who}", values, "ms") for who, values in of.items()]
            shares = [ours / theirs for ours, theirs in zip(of["node"], of["LiteLLM"], strict=True)]
            results.append(measured(f"{name}, node ÷ LiteLLM", shares, "ratio"))
    return results
