"""Processor time of the node's process alone for each token it streams; the engine speaks at a fixed rate."""

import asyncio
import tempfile
from pathlib import Path

import aiohttp
from tests.processes import NodeProcess

from bench.load import ask, cpu_seconds, question
from bench.result import Result, measured
from tirami.testing import EngineProcess

RUNS, STREAMS, TOKENS, DELAY_MS = 5, 8, 800, 10


async def run() -> list[Result]:
    """Eight streams of about a hundred tokens a second each; what a request costs besides is in the figure."""
    body = question(f"[[delay_ms={DELAY_MS}]] go on", TOKENS)
    spent = []
    with EngineProcess() as engine, tempfile.TemporaryDirectory() as home:
        with NodeProcess(Path(home) / "node", "--upstream", engine.url, "--log-level", "warning") as node:
            async with aiohttp.ClientSession() as http:
                for _ in range(RUNS + 1):
                    before = cpu_seconds(node.process.pid)
                    answers = await asyncio.gather(*(ask(http, f"{node.url}/v1", body) for _ in range(STREAMS)))
                    used = cpu_seconds(node.process.pid) - before
                    spent.append(used / sum(answer.pieces for answer in answers) * 1e6)
    return [measured(f"node CPU a streamed token, {STREAMS} streams", spent[1:], "µs", most=300)]
