"""Tokens a second through the node against directly to its child, at 1, 4 and 8 streams, interleaved."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp

from bench.pairs import ratios
from bench.result import Result, measured
from tirami.core.clock import SystemClock
from tirami.core.config import load_config
from tirami.infer import Engine, Sampling
from tirami.node.http import HttpServer, build_app
from tirami.node.parts import open_parts

TOKENS = 128
GOALS = {1: 0.97, 4: 0.93, 8: 0.93}
MESSAGES = [{"role": "user", "content": "Tell me a long story about the sea."}]


async def timed(streams: int, one: Callable[[int], Awaitable[int]]) -> float:
    """Tokens a second of several streams at once."""
    began = time.perf_counter()
    counts = await asyncio.gather(*(one(index) for index in range(streams)))
    return sum(counts) / (time.perf_counter() - began)


async def direct(engine: Engine, seed: int) -> int:
    prompt = await engine.prepare(MESSAGES)
    count = 0
    async with engine.generate(prompt, Sampling(max_tokens=TOKENS, seed=seed)) as generation:
        async for chunk in generation:
            count = chunk.count
    return count


async def through(session: aiohttp.ClientSession, url: str, seed: int) -> int:
    body = {
        "messages": MESSAGES,
        "max_tokens": TOKENS,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        events = await reply.read()
    usage = next(json.loads(line[6:])["usage"] for line in events.splitlines() if b'"completion_tokens":' in line)
    return int(usage["completion_tokens"])


async def run() -> list[Result]:
    """The node runs in this process, beside the measuring client: its share includes the client's own work."""
    results = []
    with tempfile.TemporaryDirectory() as home:
        flags = {"data_dir": str(Path(home) / "node"), "infer.model": "smollm2:135m", "log.level": "warning"}
        async with open_parts(load_config(None, os.environ, flags), SystemClock()) as parts:
            await parts.engines.start()
            engine = parts.engines.engine
            assert engine is not None
            try:
                async with HttpServer(build_app(parts), "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
                    for streams, goal in GOALS.items():
                        shares = await ratios(
                            partial(timed, streams, partial(through, session, server.url)),
                            partial(timed, streams, partial(direct, engine)),
                        )
                        name = f"tokens/s through the node ÷ directly, {streams} stream{'s' if streams > 1 else ''}"
                        results.append(measured(name, shares, "ratio", least=goal))
            finally:
                await parts.engines.close()
    return results
