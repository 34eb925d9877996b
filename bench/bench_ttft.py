"""What the node adds to the time to first token, at 50 requests a second against the testing engine."""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import aiohttp
from tests.processes import NodeProcess

from bench.pairs import PAIRS
from bench.result import Result, measured
from tirami.testing import EngineProcess

RATE, SECONDS = 50, 4


async def first_token(session: aiohttp.ClientSession, url: str) -> float:
    """Milliseconds from the request to the first piece of text."""
    body = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 8, "stream": True}
    began = time.perf_counter()
    first = 0.0
    async with session.post(f"{url}/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            if (
                not first
                and b'"content": "' in line.replace(b'":"', b'": "')
                and b'"content": ""' not in line.replace(b'":"', b'": "')
            ):
                first = (time.perf_counter() - began) * 1000
    return first


async def series(url: str) -> list[float]:
    """First tokens of a steady stream of requests."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = []
        began = time.perf_counter()
        for index in range(RATE * SECONDS):
            await asyncio.sleep(max(0.0, began + index / RATE - time.perf_counter()))
            tasks.append(group.create_task(first_token(session, url)))
    return [task.result() for task in tasks]


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
