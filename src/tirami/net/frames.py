"""Messages on a stream: ``u16be type ‖ u32be length ‖ body``, the body in MessagePack.

Nothing is believed before it is checked, in this order: the type is known, the length is within the bound *of that
type* (no byte of the body is read before), the body arrives in time, its outline is sound (``packed``), it is what
the type says. Whatever fails is a ``WireError``; the stream is then of no more use, and its owner resets it.

Types from 0x8000 on are optional: who does not know one skips it, so that new kinds of gossip need no new version.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from struct import Struct as Layout
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from tirami.core.errors import ConnectionLost, StreamEnded, WireError
from tirami.net.packed import check_outline
from tirami.net.transport import Stream
from tirami.proto import Message

_HEADER = Layout(">HI")
OPTIONAL = 0x8000
"""From this type on a message may be skipped by who does not know it."""
OPTIONAL_LIMIT = 64 * 1024
"""Bytes of a body that is skipped."""
FRAME_S = 10.0
"""Seconds a header may take from its first byte, and then a body."""
T = TypeVar("T")
Pace = Callable[[int, int], Awaitable[None]]

Registry = Mapping[int, type[Message]]
"""The messages that may come on a stream, by type."""


def registry(*kinds: type[Message]) -> Registry:
    """Of these kinds of message. Raises ``ValueError`` for two of one type, or a type or bound out of range."""
    table: dict[int, type[Message]] = {}
    for kind in kinds:
        if not (0 < kind.TYPE <= 0xFFFF and 0 < kind.LIMIT <= 0xFFFF_FFFF):
            raise ValueError(f"{kind.__name__}: type {kind.TYPE} or bound {kind.LIMIT} is out of range")
        if table.setdefault(kind.TYPE, kind) is not kind:
            raise ValueError(f"{kind.__name__} and {table[kind.TYPE].__name__} are both of type {kind.TYPE}")
    return MappingProxyType(table)


def encode(message: Message) -> bytes:
    """The whole frame. Raises ``WireError`` for a message above its bound or not of its own type: it is not sent."""
    body = _encoder.encode(message)
    if len(body) > message.LIMIT:
        raise _too_long(type(message).__name__, len(body), message.LIMIT)
    return _HEADER.pack(message.TYPE, len(body)) + body


def decode(kind: type[Message], body: bytes) -> Message:
    """A body of this kind. Raises ``WireError`` for anything else, never another exception."""
    check_outline(body)
    try:
        message: Message = _decoder(kind).decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error
    return message


class FrameReader:
    """The one reader of a stream's frames.

    Args:
        stream: where they come from.
        known: what may come.
        frame_s: seconds a header may take from its first byte to its last, and a body. Waiting for the first byte is
            not bounded here: put :func:`asyncio.timeout` around ``read`` for that. A cancelled ``read`` loses nothing.
        pace: told type and length before a body is read; it may wait.
    """

    def __init__(self, stream: Stream, known: Registry, frame_s: float = FRAME_S, pace: Pace | None = None) -> None:
        self._stream = stream
        self._known = known
        self._frame_s = frame_s
        self._pace = pace
        self._first = b""
        self._header: tuple[int, int] | None = None

    async def read(self) -> Message:
        """The next message; unknown optional ones are passed over.

        Raises ``WireError`` for nonsense; ``ConnectionLost`` when the frame breaks off or takes longer than
        ``frame_s``; ``StreamEnded`` when the peer has finished in order, between two frames.
        """
        while True:
            if not self._first:
                self._first = await self._stream.read(1)
            if self._header is None:
                self._header = await self._in_time(self._heading())
                if self._pace is not None:
                    await self._pace(*self._header)
            message = await self._in_time(self._frame(*self._header))
            if message is not None:
                return message

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._frame_s) as deadline:
                return await work
        except StreamEnded as error:
            raise ConnectionLost("the peer finished within a frame") from error
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise ConnectionLost(f"a frame took longer than {self._frame_s:g} s") from error

    async def _heading(self) -> tuple[int, int]:
        kind, length = _HEADER.unpack(self._first + await self._stream.read(_HEADER.size - 1))
        self._check(kind, length)
        return kind, length

    async def _frame(self, kind: int, length: int) -> Message | None:
        body = await self._stream.read(length)
        self._first, self._header = b"", None
        known = self._known.get(kind)
        return None if known is None else decode(known, body)

    def _check(self, kind: int, length: int) -> None:
        known = self._known.get(kind)
        if known is None and kind < OPTIONAL:
            raise WireError(f"a frame of type {kind}, which is not spoken here", frame=kind)
        limit = OPTIONAL_LIMIT if known is None else known.LIMIT
        if length > limit:
            raise _too_long(known.__name__ if known else f"frame of optional type {kind}", length, limit)


class FrameWriter:
    """Whole frames onto a stream, from any number of tasks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._turn = asyncio.Lock()

    async def write(self, message: Message) -> None:
        """Waits while the peer does not read. Raises ``ConnectionLost``; ``WireError`` as :func:`encode`."""
        frame = encode(message)
        async with self._turn:
            await self._stream.write(frame)


_encoder = msgspec.msgpack.Encoder()


@lru_cache(maxsize=256)
def _decoder(kind: type[Message]) -> "msgspec.msgpack.Decoder[Any]":
    return msgspec.msgpack.Decoder(kind)


def _too_long(what: str, length: int, limit: int) -> WireError:
    return WireError(f"a {what} has at most {limit} bytes, not {length}", length=length, limit=limit)
