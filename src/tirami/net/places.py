"""How many sessions this node has at one peer: fewer than the streams that peer lets anybody have."""

import asyncio
from collections.abc import Callable
from typing import Final

from tirami.net.budget import STREAMS
from tirami.net.transport import Connection, Stream

SESSIONS: Final = STREAMS - 4
"""The rest is for what else is asked of a peer, and for streams whose end is known here before it is there."""


class Places:
    """At one peer.

    Attributes:
        taken: how many there are now.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._free = asyncio.Semaphore(SESSIONS)
        self.taken = 0

    async def open(self) -> Stream:
        """A new stream, which must be reset in the end; waits for a place. Raises ``ConnectionLost``."""
        await self._free.acquire()
        self.taken += 1
        try:
            return Placed(await self._connection.open(), self._leave)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self.taken -= 1
        self._free.release()


class Placed:
    """A stream that holds a place until it is reset."""

    def __init__(self, stream: Stream, leave: Callable[[], None]) -> None:
        self._stream = stream
        self._leave: Callable[[], None] | None = leave

    async def read(self, size: int) -> bytes:
        return await self._stream.read(size)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def finish(self) -> None:
        await self._stream.finish()

    async def reset(self) -> None:
        leave, self._leave = self._leave, None
        try:
            await self._stream.reset()
        finally:
            if leave is not None:
                leave()
