"""What the protocol asks of a transport, and no more: endpoints, connections, streams.

Two things fulfil it: :class:`tirami.net.iroh.IrohEndpoint` (QUIC) and ``tirami.testing.MemoryNetwork``. Both pass the
same tests (``tests/net/test_contract.py``), so that what runs over one runs over the other. The rules they share:

- A peer is its key, and the handshake proves that it holds it.
- A stream has one reader and one writer on each side, a connection one caller of ``accept``. The peer sees a stream
  with its first byte, not before.
- A ``read`` or ``accept`` that is cancelled loses nothing: what had arrived is there for the next one. A ``write``
  that is cancelled may have sent a part, so it resets the stream.
- ``close`` is abrupt: what is still on its way may be lost. Who wants it to arrive waits for an answer first.
"""

from typing import Protocol

from tirami.core.keys import PublicKey
from tirami.net.address import PeerAddress

ALPN = b"tirami/1"
"""Protocol name in the TLS handshake (RFC 7301)."""
MAX_REASON = 256
"""Bytes of a close reason that travel."""


class Stream(Protocol):
    """An ordered, reliable flow of bytes in each direction."""

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; memory grows with what arrives, not with what is asked for.

        Raises ``StreamEnded`` when the peer finished before the first of them, ``ConnectionLost`` when it finished
        in the middle, reset the stream, or the connection broke.
        """

    async def write(self, data: bytes) -> None:
        """Hand over all of ``data``; waits while the peer does not read. Raises ``ConnectionLost``."""

    async def finish(self) -> None:
        """No more bytes from this side; the other direction goes on. Raises ``ConnectionLost``."""

    async def reset(self) -> None:
        """Abort both directions; the peer's reads and writes raise ``ConnectionLost``. Never raises."""


class Connection(Protocol):
    """A proven peer at the other end."""

    @property
    def peer(self) -> PublicKey:
        """Whose key the handshake proved."""

    @property
    def dialled(self) -> bool:
        """Whether this side called."""

    @property
    def remote(self) -> str | None:
        """``ip:port`` of the peer's end of the path in use; ``None`` over a relay or without a path."""

    @property
    def rtt_ms(self) -> int | None:
        """Round trip, milliseconds, as last estimated."""

    async def open(self) -> Stream:
        """A new stream; waits while too many are open. Raises ``ConnectionLost``."""

    async def accept(self) -> Stream:
        """A stream the peer opened: its first one first, the others in any order.

        Raises ``ConnectionLost`` when the connection is closed.
        """

    def close(self, reason: str) -> None:
        """End it at once; the peer is told ``reason``. Does nothing the second time."""

    async def closed(self) -> str:
        """Wait for the end; the reason whoever closed it gave, or what broke it."""


class Endpoint(Protocol):
    """This node on the network."""

    @property
    def key(self) -> PublicKey:
        """Who this node is."""

    def address(self) -> PeerAddress:
        """Where others may find it, as far as it knows itself."""

    async def connect(self, address: PeerAddress, timeout_s: float) -> Connection:
        """Dial. Raises ``PeerUnreachable``; ``NoCommonVersion`` when the peer answers and speaks another protocol."""

    async def accept(self) -> Connection | None:
        """The next peer that dialled and proved its key; ``None`` once the endpoint is closed."""

    async def close(self) -> None:
        """Close every connection and let go of the socket. Nothing of it runs afterwards."""
