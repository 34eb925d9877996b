"""Several ways to one end, of which the quickest is taken."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tirami.core.errors import TiramiError

T = TypeVar("T")


async def first_of(*works: Coroutine[Any, Any, T]) -> T:
    """What the first of ``works`` to succeed has, of several at once the foremost; the rest are cancelled and awaited.

    One that fails with a ``TiramiError`` leaves it to the others. Raises the foremost's where all do, and whatever else
    one raises at once.
    """
    tasks = [asyncio.create_task(work, name="race") for work in works]
    pending = set(tasks)
    try:
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not isinstance(task.exception(), TiramiError):
                    return task.result()
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
