"""What two nodes of this process say to each other, in memory or over QUIC on loopback, counted."""

from dataclasses import dataclass
from typing import Protocol

from tirami.api.schemas import PolicyRequest
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import Endpoint
from tirami.net.iroh import IrohEndpoint
from tirami.sdk import AsyncTirami
from tirami.testing import MemoryNetwork

WEALTH = {"welcome_limit": 1_000_000, "unwitnessed_daily_limit": 1_000_000}
"""Parameters of a network on which a buyer of thousands of TRM needs to earn nothing."""
LIMITS = (
    *("max_cu_per_request", "max_cu_per_hour", "max_cu_lifetime"),
    *("human_approval_threshold", "max_spends_per_minute"),
)


async def unbounded(url: str, admin_token: str, account: str) -> None:
    """Let this account of the node buy as fast and as much as it can pay for."""
    async with AsyncTirami(url, token=admin_token) as admin:
        await admin.set_policy(PolicyRequest.model_validate({"node_id": account, **dict.fromkeys(LIMITS)}))


@dataclass(frozen=True, slots=True)
class Sent:
    """Both ways. Pieces are writes to streams in memory, datagrams over QUIC; bytes are what they hold."""

    bytes: int
    pieces: int

    def __sub__(self, earlier: "Sent") -> "Sent":
        return Sent(self.bytes - earlier.bytes, self.pieces - earlier.pieces)


class Wire(Protocol):
    """A medium.

    Attributes:
        medium: its name, for figures.
        pieces: what it counts beside bytes.
    """

    medium: str
    pieces: str

    async def bind(self, key: SigningKey) -> None:
        """Make the endpoint of this node."""

    def endpoint(self, key: PublicKey) -> Endpoint:
        """The one that was made."""

    def sent(self, key: PublicKey) -> Sent:
        """By and to this node, over the connections it has."""


class InMemory:
    medium, pieces = "in memory", "messages"

    def __init__(self) -> None:
        self._network = MemoryNetwork(seed=1)
        self._bound: dict[PublicKey, Endpoint] = {}

    async def bind(self, key: SigningKey) -> None:
        self._bound[key.public_key] = self._network.endpoint(key.public_key)

    def endpoint(self, key: PublicKey) -> Endpoint:
        return self._bound[key]

    def sent(self, key: PublicKey) -> Sent:
        """Of all nodes: there are two."""
        return Sent(self._network.traffic.bytes, self._network.traffic.messages)


class Quic:
    medium, pieces = "QUIC on loopback", "datagrams"

    def __init__(self) -> None:
        self._bound: dict[PublicKey, IrohEndpoint] = {}

    async def bind(self, key: SigningKey) -> None:
        self._bound[key.public_key] = await IrohEndpoint.bind(key)

    def endpoint(self, key: PublicKey) -> Endpoint:
        return self._bound[key]

    def sent(self, key: PublicKey) -> Sent:
        counts = [connection._connection.stats() for connection in self._bound[key]._connections]
        return Sent(
            sum(count.udp_tx_bytes + count.udp_rx_bytes for count in counts),
            sum(count.udp_tx_datagrams + count.udp_rx_datagrams for count in counts),
        )
