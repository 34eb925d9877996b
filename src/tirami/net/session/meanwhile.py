"""Something to do while something else takes its time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def meanwhile(work: Coroutine[Any, Any, T], every_s: float, say: Callable[[], Awaitable[None]]) -> T:
    """Await ``work`` and call ``say`` every so many seconds until it is done. Raises what either does."""
    task = asyncio.create_task(work, name="meanwhile")
    try:
        while not (await asyncio.wait((task,), timeout=every_s))[0]:
            await say()
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
