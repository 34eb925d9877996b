"""The reading end of a stream: bytes that have arrived and wait for their reader."""

from collections.abc import Awaitable, Callable

from tirami.core.errors import ConnectionLost, StreamEnded


class Inflow:
    """Gathers pieces until a read can be answered.

    What a read had gathered when it was cancelled, or when the stream broke, stays here.

    Args:
        more: waits for the next piece; ``b""`` when the peer has finished. Losing nothing when it is cancelled is
            its own duty. Raises ``ConnectionLost``.
    """

    def __init__(self, more: Callable[[], Awaitable[bytes]]) -> None:
        self._more = more
        self._waiting = bytearray()
        self._ended = False
        self._broken: str | None = None

    async def read(self, size: int) -> bytes:
        """As :meth:`tirami.net.transport.Stream.read`."""
        while len(self._waiting) < size and not self._ended:
            if self._broken is not None:
                raise ConnectionLost(self._broken)
            try:
                piece = await self._more()
            except ConnectionLost as error:
                self._broken = error.message  # a QUIC stream tells of its reset once, then looks finished
                raise
            self._waiting += piece
            self._ended = not piece
        if len(self._waiting) < size:
            if not self._waiting:
                raise StreamEnded("the peer has finished")
            raise ConnectionLost(f"the peer finished after {len(self._waiting)} of {size} bytes")
        with memoryview(self._waiting) as arrived:
            taken = bytes(arrived[:size])
        del self._waiting[:size]
        return taken
