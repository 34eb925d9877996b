"""What the node adds to the time to first token, at 50 requests a second against the testing engine."""

import tempfile
from pathlib import Path
from statistics import quantiles

from tests.processes import NodeProcess

from bench.load import question, steady
from bench.pairs import PAIRS
from bench.result import Result, measured
from tirami.testing import EngineProcess

RATE, SECONDS = 50, 4


async def series(url: str) -> list[float]:
    """Milliseconds to the first token of a steady stream of requests."""
    return [timing.first for timing in await steady(url, question(), RATE, SECONDS)]


async def run() -> list[Result]:
    """Differences of percentiles, node minus direct, in interleaved pairs of series."""
    p50, p99 = [], []
    with EngineProcess() as engine, tempfile.TemporaryDirectory() as home:
        env = {"TIRAMI_API_RATE_PER_SECOND": "100000"}
        with NodeProcess(Path(home) / "node", "--upstream", engine.url, "--log-level", "warning", env=env) as node:
            for pair in range(PAIRS + 1):
                urls = [engine.url, node.url + "/v1"]
                if pair % 2:
                    through, direct = [await series(url) for url in reversed(urls)]
                else:
                    direct, through = [await series(url) for url in urls]
                cuts = quantiles(direct, n=100), quantiles(through, n=100)
                p50.append(cuts[1][49] - cuts[0][49])
                p99.append(cuts[1][98] - cuts[0][98])
    return [
        measured("added TTFT at 50 requests/s, p50", p50[1:], "ms", most=5),
        measured("added TTFT at 50 requests/s, p99", p99[1:], "ms", most=20),
    ]
