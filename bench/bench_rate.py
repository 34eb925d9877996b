"""A hundred streams a second for half a minute: the last third must be answered as fast as the first."""

import tempfile
from pathlib import Path
from statistics import quantiles

from tests.processes import NodeProcess

from bench.load import Timing, question, refused, steady
from bench.result import Result, measured
from tirami.testing import EngineProcess

RATE, SECONDS = 100, 36


def cuts(timings: list[Timing]) -> tuple[float, float]:
    """p50 and p99 of whole answers."""
    found = quantiles([timing.whole for timing in timings], n=100)
    return found[49], found[98]


async def run() -> list[Result]:
    """Requests are sent by the clock, not when others are done, so that a queue would show as growth."""
    env = {"TIRAMI_API_RATE_PER_SECOND": "100000", "TIRAMI_INFER_SLOTS": "64"}
    with EngineProcess() as engine, tempfile.TemporaryDirectory() as home:
        with NodeProcess(Path(home) / "node", "--upstream", engine.url, "--log-level", "warning", env=env) as node:
            await steady(f"{node.url}/v1", question("[[delay_ms=5]] go on"), RATE, 3)
            timings = await steady(f"{node.url}/v1", question("[[delay_ms=5]] go on"), RATE, SECONDS)
    third = len(timings) // 3
    first, last = cuts(timings[:third]), cuts(timings[-third:])
    return [
        measured("100 streams/s for 36 s, refused", [refused(timings)], "requests", most=0),
        measured("100 streams/s for 36 s, whole answer of 8 tokens, p50", [cuts(timings)[0]], "ms"),
        measured("100 streams/s for 36 s, whole answer of 8 tokens, p99", [cuts(timings)[1]], "ms"),
        measured("the same, p50 of the last third ÷ the first", [last[0] / first[0]], "ratio", most=1.2),
        measured("the same, p99 of the last third ÷ the first", [last[1] / first[1]], "ratio", most=1.5),
    ]
