"""What peers may make this node keep in memory, all together: one budget, and whoever has it keep the most goes first.

Every peer is bounded by itself, but a thousand of them at their bounds are more than a machine has. What counts is what
a peer could fill at this moment: of each of its streams the window, while nobody here reads it, or the message that is
arriving; and what is written and not taken yet. That is next to nothing of an honest peer, and not for long.
"""

from collections.abc import Callable
from typing import Final

import structlog

from tirami.net.transport import Stream

MOST: Final = 256 * 1024 * 1024
"""Bytes."""
WINDOW: Final = 1_250_000 + 64 * 1024
"""Bytes of a stream that nobody reads: its QUIC window, and one piece that was read ahead."""
SMALL: Final = 1024
"""Bytes of a message that are not worth counting while they arrive."""
_log = structlog.get_logger()


class Burden:
    """Of one node."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._shares: set[Share] = set()
        self._turns = 0
        self.bytes = 0
        """What all peers together could have this node keep now."""

    def share(self, chosen: Callable[[], bool], close: Callable[[str], None]) -> "Share":
        """That of a new peer.

        Args:
            chosen: whether this node chose the peer: then it is never let go for this. There are few of those.
            close: lets it go, for this reason.
        """
        return Share(self, chosen, close)

    def add(self, share: "Share", more: int) -> None:
        """``share`` has changed by so many bytes."""
        self.bytes += more
        if not share.bytes:
            self._shares.discard(share)
        elif share not in self._shares:
            self._turns += 1
            share.since = self._turns
            self._shares.add(share)
        while self.bytes > self._most and (heaviest := self._heaviest()) is not None:
            heaviest.shed()

    def _heaviest(self) -> "Share | None":
        """Of equals the one that has kept something for longer: who is honest has not for long."""
        strangers = (share for share in self._shares if not share.chosen())
        return max(strangers, key=lambda share: (share.bytes, -share.since), default=None)


class Share:
    """Of one peer."""

    def __init__(self, burden: Burden, chosen: Callable[[], bool], close: Callable[[str], None]) -> None:
        self._burden = burden
        self._close = close
        self._parts: dict[object, int] = {}
        self._ended = False
        self.chosen = chosen
        self.bytes = 0
        self.since = 0
        """Turn in which it last began to keep anything."""

    def keep(self, part: object, size: int) -> None:
        """From now on this part of it keeps so many bytes, whatever it kept before; 0 for none."""
        if self._ended:
            return
        more = size - self._parts.pop(part, 0)
        if size:
            self._parts[part] = size
        if more:
            self.bytes += more
            self._burden.add(self, more)

    def end(self) -> None:
        """The peer is gone, and all that was kept for it."""
        self._ended = True
        self._parts.clear()
        kept, self.bytes = self.bytes, 0
        self._burden.add(self, -kept)

    def shed(self) -> None:
        """Let the peer go."""
        _log.info("peer_too_heavy", bytes=self.bytes)
        self.end()
        self._close("too much of it waits here, while too much waits of all")


class Weighed:
    """A stream that the peer opened, and what it keeps here until it is :meth:`done` or reset."""

    def __init__(self, stream: Stream, share: Share) -> None:
        self._stream = stream
        self._share = share
        share.keep(self, WINDOW)

    async def read(self, size: int) -> bytes:
        self._share.keep(self, size if size > SMALL else 0)
        try:
            return await self._stream.read(size)
        finally:
            self._share.keep(self, WINDOW)

    async def write(self, data: bytes) -> None:
        part = (self, "out")
        self._share.keep(part, len(data))
        try:
            await self._stream.write(data)
        finally:
            self._share.keep(part, 0)

    async def finish(self) -> None:
        await self._stream.finish()

    async def reset(self) -> None:
        try:
            await self._stream.reset()
        finally:
            self.done()

    def done(self) -> None:
        """Whoever had it reads it no more, and lets go of it."""
        self._share.keep(self, 0)
