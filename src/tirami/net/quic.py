"""QUIC connections and streams through ``iroh``'s bindings (RFC 9000). What the bindings ask for:

- A foreign call that is cancelled is dropped with the bytes it may already hold, and one that is not holds the lock of
  its half stream. So reads and writes run as tasks of their connection; who waits for one may be cancelled without
  it, and a reset ends it first.
- A stream half that Python lets go is finished in good order. The connection keeps every stream that was not finished
  or reset, so that a handler which fails does not look as if it had said all.
- Its windows cannot be set before the handshake promises them: a peer may leave 100 streams of 1.25 MB each unread
  here. Who accepts connections bounds their number, and closes those whose streams do not end.
"""

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tirami.core.errors import ConnectionLost
from tirami.core.keys import PublicKey
from tirami.core.uninterrupted import uninterrupted
from tirami.net.bindings import iroh
from tirami.net.inflow import Inflow
from tirami.net.transport import MAX_REASON

T = TypeVar("T")

READ_CHUNK = 64 * 1024
WRITE_CHUNK = 256 * 1024
"""Bytes of one foreign call; each is copied once on either side of it."""
ACCEPTING = 8
"""Streams taken over at a time, once the first is there: each takes several turns of a loop that may be busy, and what
is sent on a stream nobody has taken yet, or refused yet, fills memory all the while."""
_RESET = 1
_CLOSED_BY_PEER = re.compile(r"closed by peer: (.*) \(code \d+\)\Z", re.DOTALL)


class IrohStream:
    """A bidirectional QUIC stream; see :class:`tirami.net.transport.Stream`."""

    def __init__(self, connection: "IrohConnection", both: iroh.BiStream) -> None:
        self._connection = connection
        self._send = both.send()
        self._recv = both.recv()
        self._inflow = Inflow()
        self._reading: asyncio.Task[bytes] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._reset: str | None = None
        connection.unfinished.add(self)

    async def read(self, size: int) -> bytes:
        return await self._inflow.read(size, self._more)

    async def write(self, data: bytes) -> None:
        self._check()
        writing = self._writing = self._connection.task(self._push(data))
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            await uninterrupted(self.reset())
            raise
        self._writing = None
        self._outcome(writing)

    async def finish(self) -> None:
        self._check()
        try:
            await self._send.finish()
        except iroh.IrohError as error:
            raise self._lost(error) from error
        self._connection.unfinished.discard(self)

    async def reset(self) -> None:
        self._abandon("this side reset the stream")
        under_way: set[asyncio.Task[Any]] = {task for task in (self._reading, self._writing) if task is not None}
        for task in under_way:
            task.cancel()
        self._reading = self._writing = None
        if under_way:
            await asyncio.wait(under_way)
        with suppress(iroh.IrohError):
            await self._send.reset(_RESET)
        with suppress(iroh.IrohError):
            await self._recv.stop(_RESET)

    async def _more(self) -> bytes:
        self._check()
        reading = self._reading
        if reading is None:
            reading = self._reading = self._connection.task(self._recv.read(READ_CHUNK))
        await asyncio.wait({reading})
        self._reading = None
        return self._outcome(reading)

    async def _push(self, data: bytes) -> None:
        with memoryview(data) as view:
            for start in range(0, len(view), WRITE_CHUNK):
                await self._send.write_all(bytes(view[start : start + WRITE_CHUNK]))

    def _outcome(self, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise ConnectionLost("this side reset the stream")
        if (error := task.exception()) is None:
            return task.result()
        if isinstance(error, iroh.IrohError):  # not chained: it would lead from the task to the stream, and back
            raise self._lost(error)
        raise error

    def _check(self) -> None:
        if self._reset is not None:
            raise ConnectionLost(self._reset)

    def _abandon(self, why: str) -> None:
        self._reset = self._reset or why
        self._connection.unfinished.discard(self)

    def _lost(self, error: iroh.IrohError) -> ConnectionLost:
        what = error.message()
        if what.startswith(("Reset(", "Stopped(")):  # word of either direction is word of both
            self._abandon("the peer reset the stream")
            return ConnectionLost("the peer reset the stream")
        if what.startswith("ClosedStream"):
            return ConnectionLost("the stream is finished or reset")
        return self._connection.lost(error)


class IrohConnection:
    """A QUIC connection; see :class:`tirami.net.transport.Connection`.

    Its one owner is the task that waits for its end: it collects every read and write still under way, and the
    endpoint waits for it.
    """

    def __init__(self, connection: iroh.Connection, *, dialled: bool) -> None:
        self._connection = connection
        self._dialled = dialled
        self._peer = PublicKey(connection.remote_id().to_bytes())
        self._own_reason: str | None = None
        self.unfinished: set[IrohStream] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepted = False
        self._accepting: list[asyncio.Task[iroh.BiStream]] = []
        self.end = asyncio.create_task(self._until_closed(), name=f"mesh connection {self._peer.hex()[:8]}")

    @property
    def peer(self) -> PublicKey:
        return self._peer

    @property
    def dialled(self) -> bool:
        return self._dialled

    @property
    def remote(self) -> str | None:
        return next((path.remote_addr for path in self._connection.paths() if path.is_selected and path.is_ip), None)

    @property
    def rtt_ms(self) -> int | None:
        return self._connection.rtt()

    async def open(self) -> IrohStream:
        try:
            return IrohStream(self, await self._connection.open_bi())
        except iroh.IrohError as error:
            raise self.lost(error) from error

    async def accept(self) -> IrohStream:
        while len(self._accepting) < (ACCEPTING if self._accepted else 1):
            self._accepting.append(self.task(self._connection.accept_bi()))
        while (finished := next((task for task in self._accepting if task.done()), None)) is None:
            await asyncio.wait(self._accepting, return_when=asyncio.FIRST_COMPLETED)
        self._accepting.remove(finished)
        self._accepted = True
        try:
            return IrohStream(self, finished.result())
        except iroh.IrohError as error:
            raise self.lost(error) from error

    def close(self, reason: str) -> None:
        if self._own_reason is None and self._connection.close_reason() is None:
            self._own_reason = reason
            self._connection.close(0, reason.encode()[:MAX_REASON])

    async def closed(self) -> str:
        return await asyncio.shield(self.end)

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A foreign call under way, collected at the end of the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._collect)
        return task

    def _collect(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who still waits for it is told; when nobody does, that is no fault

    def lost(self, error: iroh.IrohError) -> ConnectionLost:
        """What a foreign error means here: the reason of the close, where there was one."""
        cause = self._connection.close_reason()
        return ConnectionLost(error.message() if cause is None else f"the connection is closed: {self._reason(cause)}")

    def _reason(self, cause: str) -> str:
        if self._own_reason is not None:
            return self._own_reason
        by_peer = _CLOSED_BY_PEER.match(cause)
        return (by_peer[1] if by_peer else cause)[:MAX_REASON]

    async def _refuse_one_way(self) -> None:
        """Nobody here speaks them, and each would buffer a megabyte unread: whoever opens one is no peer."""
        with suppress(iroh.IrohError):
            await self._connection.accept_uni()
            self.close("one-way streams are not spoken here")

    async def _until_closed(self) -> str:
        self.task(self._refuse_one_way())
        cause = await self._connection.closed()
        while self._tasks:  # each fails now, of itself
            await asyncio.wait(self._tasks)
        self.unfinished.clear()
        return self._reason(cause)
