"""Clients that go away while they are answered: whatever is done for them ends then."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Message, Receive, Send

T = TypeVar("T")
SEND_TIMEOUT_S = 15.0
"""A client that does not take a chunk for this long is gone. Sooner than a provider gives up who waits for the voucher
over it (``net.session.terms.IDLE_S``): so a bought answer is left in good order, and what came of it is paid."""


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Run ``work`` until it is done or the client goes away, which cancels it; returns its ended task."""
    task = asyncio.create_task(work, name="answer")
    gone = asyncio.create_task(_disconnected(receive), name="disconnect-watch")
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (gone, task):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    return task


async def put(send: Send, message: Message) -> None:
    """Raises ``TimeoutError`` when the client does not take it."""
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send(message)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
