"""Between nodes: addresses, the transport's contract, messages on streams.

``tirami.net.iroh`` is the transport over QUIC and is imported by name, because the library takes 17 MB.
"""

from tirami.net.address import HostPort, PeerAddress
from tirami.net.frames import FRAME_S, OPTIONAL, OPTIONAL_LIMIT, FrameReader, FrameWriter, Registry, registry
from tirami.net.transport import ALPN, MAX_REASON, Connection, Endpoint, Stream

__all__ = [
    "ALPN",
    "FRAME_S",
    "MAX_REASON",
    "OPTIONAL",
    "OPTIONAL_LIMIT",
    "Connection",
    "Endpoint",
    "FrameReader",
    "FrameWriter",
    "HostPort",
    "PeerAddress",
    "Registry",
    "Stream",
    "registry",
]
