"""A steady stream of chat requests, and what became of each; how much a process uses."""

import asyncio
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

_TEXT = re.compile(rb'"content": ?"[^"]')
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the request was sent: until the first and last piece of text (0 without any), and the end."""

    status: int
    first: float
    last: float
    whole: float
    pieces: int
    """Of text."""


def question(text: str = "hello there", tokens: int = 8, *, stream: bool = True) -> dict[str, Any]:
    """A body for the testing engine behind any server."""
    messages = [{"role": "user", "content": text}]
    return {"model": "tirami-testing", "messages": messages, "max_tokens": tokens, "stream": stream}


async def ask(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Timing:
    """``url`` is an OpenAI base URL."""
    began = time.perf_counter()
    first, last, pieces = 0.0, 0.0, 0
    async with http.post(f"{url}/chat/completions", json=body) as reply:
        async for line in reply.content:
            if _TEXT.search(line):
                last, pieces = time.perf_counter() - began, pieces + 1
                first = first or last
    return Timing(reply.status, first * 1000, last * 1000, (time.perf_counter() - began) * 1000, pieces)


async def steady(url: str, body: dict[str, Any], rate: int, seconds: float, key: str = "local") -> list[Timing]:
    """Requests at a fixed rate, whether or not earlier ones are answered; timings in the order of sending."""
    connector, headers = aiohttp.TCPConnector(limit=0), {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http, asyncio.TaskGroup() as group:
        tasks = []
        began = time.perf_counter()
        for index in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + index / rate - time.perf_counter()))
            tasks.append(group.create_task(ask(http, url, body)))
    return [task.result() for task in tasks]


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used in user and kernel mode."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


def refused(timings: list[Timing]) -> int:
    """Requests that were not answered with text."""
    return sum(timing.status != 200 or not timing.pieces for timing in timings)
