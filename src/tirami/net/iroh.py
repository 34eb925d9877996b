"""The transport over QUIC: ``iroh`` endpoints whose identity is the node key (RFC 9000, RFC 7250).

Importing this module loads the library (17 MB of memory, once bound); a node without a mesh does not.

``bind_addr`` of the library binds one address family and leaves the other on its wildcard: asked for 127.0.0.1, it
would also listen on ``[::]``. Here the other family is bound to loopback.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tirami.core.errors import ConfigError, InvalidField, NoCommonVersion, PeerUnreachable, PortTaken
from tirami.core.keys import PublicKey, SigningKey
from tirami.net.address import MAX_WAYS, HostPort, PeerAddress
from tirami.net.allocator import Allocator
from tirami.net.bindings import iroh
from tirami.net.doorman import Doorman
from tirami.net.quic import IrohConnection
from tirami.net.transport import ALPN


class IrohEndpoint:
    """This node on QUIC; see :class:`tirami.net.transport.Endpoint`. Made by :meth:`bind`."""

    def __init__(
        self, endpoint: iroh.Endpoint, key: PublicKey, allocator: Allocator, ip: IPv4Address | IPv6Address
    ) -> None:
        self._endpoint = endpoint
        self._ip = ip
        self._key = key
        self._connections: set[IrohConnection] = set()
        self._closing = False
        self._doorman = Doorman(endpoint, self._own)
        self._allocator = allocator
        self._giving_back = asyncio.create_task(allocator.run(), name="mesh memory")

    @classmethod
    async def bind(cls, key: SigningKey, bind: str = "127.0.0.1:0", relay: str = "off") -> Self:
        """Listen.

        Args:
            key: the node key; peers know this endpoint by its public half.
            bind: ``IP:PORT`` of the UDP socket, port 0 for any; 0.0.0.0 and [::] for every interface.
            relay: ``off``: direct addresses only, no third party is asked anything; ``n0``: the public relays and
                address lookup of number 0; otherwise the URL of a relay.

        Raises ``PortTaken`` when it cannot listen there, ``ConfigError`` when either value makes no sense.
        """
        ip, addresses = _bind_addresses(bind)
        allocator = Allocator()  # before the library starts its threads: each would have an arena already
        for attempt in (addresses, addresses[:1]):  # without IPv6 on the machine there is no other family to bind
            try:
                return cls(await _builder(key, attempt, relay).bind(), key.public_key, allocator, ip)
            except iroh.IrohError as error:
                cause = error
        message = f"the UDP address {bind} cannot be bound: {cause.message()}; choose another with --p2p-bind"
        raise PortTaken(message, param="mesh.bind") from cause

    @property
    def key(self) -> PublicKey:
        return self._key

    @property
    def port(self) -> int:
        """Of the UDP socket that was asked for, whatever the other family has."""
        bound = [HostPort.parse(text) for text in self._endpoint.bound_sockets()]
        return next(end.port for end in bound if isinstance(end.ip, type(self._ip)))

    def address(self) -> PeerAddress:
        found = self._endpoint.addr()
        direct = [way for way in found.direct_addresses() if "%" not in way]  # of one interface: of use to nobody else
        return PeerAddress(self._key, tuple(direct[:MAX_WAYS]), found.relay_url())

    async def connect(self, address: PeerAddress, timeout_s: float) -> IrohConnection:
        if self._closing:
            raise PeerUnreachable("this endpoint is closed")
        if address.key == self._key:
            raise PeerUnreachable("that is this node itself")
        try:
            async with asyncio.timeout(timeout_s):
                target = iroh.EndpointAddr(
                    iroh.EndpointId.from_bytes(address.key), address.relay, await _resolved(address.direct)
                )
                connection = await self._endpoint.connect(target, ALPN)
        except TimeoutError as error:
            raise PeerUnreachable(f"{address} did not answer within {timeout_s:g} s") from error
        except (iroh.IrohError, OSError) as error:
            raise _unreachable(address, error) from error
        return self._own(connection, dialled=True)

    async def accept(self) -> IrohConnection | None:
        return await self._doorman.next()

    async def close(self) -> None:
        self._closing = True
        for connection in self._connections:
            connection.close("the endpoint is closed")
        await self._endpoint.close()
        await self._doorman.end
        for connection in list(self._connections):
            await connection.end
        self._giving_back.cancel()
        await asyncio.wait({self._giving_back})

    def _own(self, connection: iroh.Connection, *, dialled: bool = False) -> IrohConnection:
        owned = IrohConnection(connection, dialled=dialled)
        self._connections.add(owned)
        owned.end.add_done_callback(lambda _: self._forget(owned))
        return owned

    def _forget(self, connection: IrohConnection) -> None:
        self._connections.discard(connection)
        self._allocator.freed()


def stranger(bind: str) -> Callable[[PeerAddress, float], Awaitable[float]]:
    """Calls a peer from a new key and port on the interface of ``bind``: whether somebody unknown gets through.

    The call returns seconds and raises as :meth:`IrohEndpoint.connect` does; ``PortTaken`` when nothing can be bound.
    """
    host = HostPort.parse(bind, lowest_port=0)
    anew = str(HostPort(host.host, 0, host.ip))

    async def call(address: PeerAddress, timeout_s: float) -> float:
        endpoint = await IrohEndpoint.bind(SigningKey.generate(), anew)
        try:
            began = time.monotonic()
            connection = await endpoint.connect(address, timeout_s)
            took = time.monotonic() - began
            connection.close("a probe")
            return took
        finally:
            await endpoint.close()

    return call


def _builder(key: SigningKey, addresses: list[str], relay: str) -> iroh.EndpointBuilder:
    builder = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
    try:
        if relay == "n0":
            builder.apply_n0()
        else:
            builder.apply_minimal()
            mode = iroh.RelayMode.disabled() if relay == "off" else iroh.RelayMode.custom_from_urls([relay])
            builder.relay_mode(mode)
    except iroh.IrohError as error:
        raise ConfigError(f"mesh.relay: {relay!r} is not off, n0 or the URL of a relay", param="mesh.relay") from error
    builder.secret_key(key.seed)
    builder.alpns([ALPN])
    for address in addresses:
        builder.bind_addr(address)
    return builder


def _bind_addresses(bind: str) -> tuple[IPv4Address | IPv6Address, list[str]]:
    """The address that is asked for, and what to bind: that, and the same, or loopback only, in the other family."""
    try:
        own = HostPort.parse(bind, lowest_port=0)
    except InvalidField as error:
        raise ConfigError(f"mesh.bind is IP:PORT: {error.message}", param="mesh.bind") from error
    if own.ip is None:
        raise ConfigError(f"mesh.bind is IP:PORT, and {own.host} is a name", param="mesh.bind")
    everywhere, alone = ("[::]", "[::1]:0") if isinstance(own.ip, IPv4Address) else ("0.0.0.0", "127.0.0.1:0")
    if own.ip.is_unspecified:
        return own.ip, [str(own), f"{everywhere}:{own.port}"]
    return own.ip, [str(own), alone]


async def _resolved(direct: tuple[str, ...]) -> list[str]:
    """Direct addresses with every name looked up. A name that is not found is one way less, unless it is the last."""
    loop = asyncio.get_running_loop()
    found: list[str] = []
    missing: OSError | None = None
    for way in map(HostPort.parse, direct):
        if way.ip is not None:
            found.append(str(way))
            continue
        try:
            answers = await loop.getaddrinfo(way.host, way.port)
        except OSError as error:
            missing = error
            continue
        hosts = dict.fromkeys(str(answer[4][0]) for answer in answers)
        found += [f"[{host}]:{way.port}" if ":" in host else f"{host}:{way.port}" for host in hosts if "%" not in host]
    if missing is not None and not found:
        raise missing
    return found


def _unreachable(address: PeerAddress, error: iroh.IrohError | OSError) -> PeerUnreachable | NoCommonVersion:
    what = error.message() if isinstance(error, iroh.IrohError) else str(error)
    if "known protocol" in what:
        return NoCommonVersion(f"{address} does not speak {ALPN.decode()}")
    if "peer certificate" in what:
        return PeerUnreachable(f"whoever answers at {address} does not hold its key")
    return PeerUnreachable(f"{address} cannot be reached: {what.splitlines()[-1].strip()}")
