"""Waiting for something that only shows in what can be looked at."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout: float = 10) -> None:
    """Return once ``condition`` holds; raises ``TimeoutError``."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)
