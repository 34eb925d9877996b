"""The reading end of a stream: bytes that have arrived and wait for their reader."""

from collections.abc import Awaitable, Callable

from tirami.core.errors import ConnectionLost, StreamEnded


class Inflow:
    """Gathers pieces until a read can be answered.

    What a read had gathered when it was cancelled, or when the stream broke, stays here.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._ended = False
        self._broken: str | None = None

    async def read(self, size: int, more: Callable[[], Awaitable[bytes]]) -> bytes:
        """As :meth:`tirami.net.transport.Stream.read`.

        Args:
            more: waits for the next piece; ``b""`` when the peer has finished. Losing nothing when it is cancelled is
                its own duty. Raises ``ConnectionLost``. It is not kept: a stream that refers to itself outlives its
                connection, with all that was never read of it.
        """
        while len(self._waiting) < size and not self._ended:
            if self._broken is not None:
                raise ConnectionLost(self._broken)
            try:
                piece = await more()
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
