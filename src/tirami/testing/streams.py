"""Streams and connections in memory, with the rules of QUIC: see :mod:`tirami.net.transport`.

What one side does to a stream the other learns when word of it has crossed, so a direction has two ends that are lost
each in its own time.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from tirami.core.errors import ConnectionLost
from tirami.core.keys import PublicKey
from tirami.net.inflow import Inflow
from tirami.net.transport import MAX_REASON
from tirami.testing.links import Way

WINDOW = 256 * 1024
"""Bytes of one direction of a stream that are written and not yet read; beyond it a writer waits."""
PIECE = 16 * 1024
"""Greatest number of bytes that travel as one."""
MAX_STREAMS = 100
"""Streams opened by one side that are not over, or not yet accepted; beyond it ``open`` waits.

A stream is over when each side has ended its own direction and nothing more arrives in either. A reset by the peer ends
that of the other side once it has learned of it, by a read or write that raised.
"""


class _Piece:
    """Some bytes under way; no bytes are the end."""

    __slots__ = ("arrived", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.arrived = False


class _Flow:
    """One direction of a stream. Pieces arrive in any order and are delivered in the order they were written in."""

    def __init__(self, way: Way, changed: Callable[[], None]) -> None:
        self.way = way
        self._changed = changed
        self._under_way: deque[_Piece] = deque()
        self._delivered: deque[bytes] = deque()
        self._unread = 0
        self._readable, self._writable = asyncio.Event(), asyncio.Event()
        self._reader_lost: str | None = None
        self._writer_lost: str | None = None
        self._finished = self._ended = self._let_go = False

    @property
    def has_begun(self) -> bool:
        """Whether anything has arrived."""
        return bool(self._delivered) or self._ended

    @property
    def is_over(self) -> bool:
        """Whether nothing more will arrive, and its writer is done with it."""
        return self._let_go and (self._ended or self._reader_lost is not None)

    def let_go(self) -> None:
        """Its writer is done with it."""
        if not self._let_go:
            self._let_go = True
            self._changed()

    async def push(self, data: bytes) -> None:
        self.way.count(len(data))
        with memoryview(data) as view:
            start = 0
            while start < len(view):
                self._check_writable()
                if (room := WINDOW - self._unread) <= 0:
                    self._writable.clear()
                    await self._writable.wait()
                    continue
                piece = bytes(view[start : start + min(room, PIECE)])
                start += len(piece)
                self._unread += len(piece)
                self._send(piece)

    def finish(self) -> None:
        self._check_writable()
        self._finished = True
        self._send(b"")
        self.let_go()

    async def pull(self) -> bytes:
        """The next piece; ``b""`` at the end."""
        while not self._delivered:
            if self._reader_lost is not None:
                raise ConnectionLost(self._reader_lost)
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        piece = self._delivered.popleft()
        self._unread -= len(piece)
        self._writable.set()
        return piece

    def lose_reader(self, why: str) -> None:
        if self._reader_lost is None:
            self._reader_lost = why
            self._under_way.clear()
            self._delivered.clear()
            self._readable.set()
            self._changed()

    def lose_writer(self, why: str) -> None:
        if self._writer_lost is None:
            self._writer_lost = why
            self._writable.set()

    def _check_writable(self) -> None:
        if self._writer_lost is not None:
            raise ConnectionLost(self._writer_lost)
        if self._finished:
            raise ConnectionLost("the stream is finished")

    def _send(self, data: bytes) -> None:
        piece = _Piece(data)
        self._under_way.append(piece)
        self.way.carry(len(data), lambda: self._arrive(piece))

    def _arrive(self, piece: _Piece) -> None:
        if self._reader_lost is not None:
            return
        piece.arrived = True
        while self._under_way and self._under_way[0].arrived:
            data = self._under_way.popleft().data
            if data:
                self._delivered.append(data)
            else:
                self._ended = True
        if self.has_begun:
            self._readable.set()
            self._changed()


class MemoryStream:
    """One side of a stream; see :class:`tirami.net.transport.Stream`."""

    def __init__(self, incoming: _Flow, outgoing: _Flow) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._inflow = Inflow()
        self._reset = False

    async def read(self, size: int) -> bytes:
        return await self._inflow.read(size, self._pull)

    async def _pull(self) -> bytes:
        try:
            return await self._incoming.pull()
        except ConnectionLost:
            self._outgoing.let_go()
            raise

    async def write(self, data: bytes) -> None:
        try:
            await self._outgoing.push(data)
        except asyncio.CancelledError:
            await self.reset()
            raise
        except ConnectionLost:
            self._outgoing.let_go()
            raise

    async def finish(self) -> None:
        self._outgoing.finish()

    async def reset(self) -> None:
        if not self._reset:
            self._reset = True
            self.lose("this side reset the stream")
            self._outgoing.let_go()
            self._outgoing.way.carry(0, self._tell)

    def lose(self, why: str) -> None:
        """This side's ends of both directions are of no more use."""
        self._incoming.lose_reader(why)
        self._outgoing.lose_writer(why)

    def _tell(self) -> None:
        self._outgoing.lose_reader("the peer reset the stream")
        self._incoming.lose_writer("the peer reset the stream")


class MemoryConnection:
    """One side of a connection; see :class:`tirami.net.transport.Connection`. Made by the network, in pairs."""

    def __init__(self, peer: PublicKey, out: Way, remote: str, *, dialled: bool) -> None:
        self._peer = peer
        self._out = out
        self._remote = remote
        self._dialled = dialled
        self._other = self
        self._streams: dict[MemoryStream, None] = {}  # in order: a set of objects has another one each run
        self._offered: deque[_Opening] = deque()
        self._opened: deque[_Opening] = deque()
        """By this side, of which the other has not heard."""
        self._openings = 0
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._reason: str | None = None
        self.on_end: list[Callable[[], object]] = []

    @classmethod
    def pair(
        cls, caller: PublicKey, called: PublicKey, there: Way, back: Way, remotes: tuple[str, str]
    ) -> "tuple[MemoryConnection, MemoryConnection]":
        """Both ends: the caller's and the other one. ``remotes`` are their addresses, the caller's first."""
        dialling = cls(called, there, remotes[1], dialled=True)
        answering = cls(caller, back, remotes[0], dialled=False)
        dialling._other, answering._other = answering, dialling
        return dialling, answering

    @property
    def peer(self) -> PublicKey:
        return self._peer

    @property
    def dialled(self) -> bool:
        return self._dialled

    @property
    def remote(self) -> str | None:
        return self._remote

    @property
    def rtt_ms(self) -> int | None:
        return round(1000 * self._out.link.rtt_s)

    @property
    def is_over(self) -> bool:
        """For both sides."""
        return self._reason is not None and self._other._reason is not None

    def watch_ends(self, callback: Callable[[], object]) -> None:
        """Call back at the end of each side."""
        for side in (self, self._other):
            side.on_end.append(callback)

    async def open(self) -> MemoryStream:
        while self._reason is None and self._openings >= MAX_STREAMS:
            await self._change()
        self._check()
        self._openings += 1
        opening = _Opening(self, self._other)
        self._opened.append(opening)
        return opening.mine

    async def accept(self) -> MemoryStream:
        while not self._offered:
            self._check()
            await self._change()
        opening = self._offered.popleft()
        opening.accept()
        return opening.theirs

    def offer(self, opening: "_Opening") -> None:
        """The other side has heard of a stream, and by it of those opened before."""
        while not opening.is_offered:
            earlier = self._opened.popleft()
            earlier.is_offered = True
            if not earlier.is_over:
                self._other._offered.append(earlier)
        self._other._changed.set()

    def close(self, reason: str) -> None:
        if self._reason is None:
            reason = reason.encode()[:MAX_REASON].decode(errors="replace")
            self.end(reason)
            self._out.carry(len(reason), lambda: self._other.end(reason))

    async def closed(self) -> str:
        await self._ended.wait()
        assert self._reason is not None
        return self._reason

    def end(self, reason: str) -> None:
        """It is over for this side, whatever the other one knows."""
        if self._reason is None:
            self._reason = reason
            self._offered.clear()
            for stream in list(self._streams):
                stream.lose(f"the connection is closed: {reason}")
            self._ended.set()
            self._changed.set()
            for forget in self.on_end:
                forget()

    def end_both(self, reason: str) -> None:
        """Break it, without a word to either side."""
        self.end(reason)
        self._other.end(reason)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _check(self) -> None:
        if self._reason is not None:
            raise ConnectionLost(f"the connection is closed: {self._reason}")


class _Opening:
    """A stream from its opening until it is over on both sides, as the two connections count it."""

    def __init__(self, opener: MemoryConnection, acceptor: MemoryConnection) -> None:
        self._opener, self._acceptor = opener, acceptor
        self._there = _Flow(opener._out, self._on_change)
        self._back = _Flow(acceptor._out, self._on_change)
        self.mine = MemoryStream(self._back, self._there)
        self.theirs = MemoryStream(self._there, self._back)
        self.is_offered = False
        self.is_over = False
        self._is_accepted = False
        opener._streams[self.mine] = None
        acceptor._streams[self.theirs] = None
        if acceptor._reason is not None:  # word of the end is on its way
            self.theirs.lose(acceptor._reason)

    def accept(self) -> None:
        self._is_accepted = True
        self._on_change()

    def _on_change(self) -> None:
        if self._there.has_begun and not self.is_offered and self._acceptor._reason is None:
            self._opener.offer(self)
        waits = self.is_offered and not self._is_accepted
        if self._there.is_over and self._back.is_over and not waits and not self.is_over:
            self.is_over = True
            self._opener._streams.pop(self.mine, None)
            self._acceptor._streams.pop(self.theirs, None)
            self._opener._openings -= 1
            self._opener._changed.set()
