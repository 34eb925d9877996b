"""How fast the kill switch answers, and how fast streams end, while the node is busy."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles

import aiohttp
from tests.processes import NodeProcess

from bench.result import Result, measured
from tirami.testing import EngineProcess

KILLS, STREAMS = 100, 8


async def stream(http: aiohttp.ClientSession, url: str) -> float:
    """Ask for a long answer; when its last chunk came."""
    body = {"messages": [{"role": "user", "content": "[[delay_ms=10]] go on"}], "max_tokens": 5000, "stream": True}
    async with http.post(f"{url}/v1/chat/completions", json=body) as reply:
        async for _ in reply.content:
            pass
    return time.perf_counter()


async def throw(http: aiohttp.ClientSession, url: str, token: str, active: bool) -> float:
    """Seconds until the reply."""
    began = time.perf_counter()
    body, headers = {"activate": active, "reason": "bench"}, {"authorization": f"Bearer {token}"}
    async with http.post(f"{url}/v1/tirami/kill", json=body, headers=headers) as reply:
        reply.raise_for_status()
        await reply.read()
    return time.perf_counter() - began


@asynccontextmanager
async def busy(http: aiohttp.ClientSession, url: str) -> AsyncIterator[list["asyncio.Task[float]"]]:
    """Eight streams under way."""
    tasks = [asyncio.create_task(stream(http, url)) for _ in range(STREAMS)]
    while True:
        async with http.get(f"{url}/status") as reply:
            if (await reply.json())["engine"]["busy"] == STREAMS:
                break
        await asyncio.sleep(0.005)
    try:
        yield tasks
    finally:
        await asyncio.gather(*tasks)


async def run() -> list[Result]:
    replies, endings = [], []
    with EngineProcess() as engine, tempfile.TemporaryDirectory() as home:
        with NodeProcess(Path(home) / "node", "--upstream", engine.url, "--log-level", "warning") as node:
            token = (node.data_dir / "admin.token").read_text().strip()
            async with aiohttp.ClientSession() as http:
                for _ in range(KILLS):
                    async with busy(http, node.url) as tasks:
                        replies.append(await throw(http, node.url, token, True) * 1000)
                        replied = time.perf_counter()
                        last = max(await asyncio.gather(*tasks))
                        endings.append(max(0.0, (last - replied) * 1000))
                    await throw(http, node.url, token, False)
    p99 = quantiles(replies, n=100)[98]
    return [
        measured("reply to kill, 8 streams running, p50", replies, "ms"),
        measured("reply to kill, 8 streams running, p99", [p99], "ms", most=20),
        measured("last stream ended after that reply, slowest of 100", [max(endings)], "ms", most=200),
    ]
