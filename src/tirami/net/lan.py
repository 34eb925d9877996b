"""Nodes on the same local network, by multicast DNS (RFC 6762, 6763): nothing to configure, nobody to ask.

Each announces ``_tirami._udp.local.`` with its key and the id of its network in the TXT record. What is read there is a
hint like any other; a node of another network is passed over. Imported by name: the library is loaded only where it is
wanted.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import structlog
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tirami.core.errors import TiramiError
from tirami.core.keys import parse_node_id
from tirami.net.address import HostPort, PeerAddress
from tirami.net.addressbook import MAX_WAYS, Trust

_log = structlog.get_logger()
SERVICE: Final = "_tirami._udp.local."
RESOLVE_MS: Final = 2_000
WAITING: Final = 128
"""Names whose records are still to be asked for; more than so many at a time are passed over."""
GOODBYE_S: Final = 1.0

Found = Callable[[Iterable[PeerAddress], Trust], None]


class LanSource:
    """Announces this node on the networks it listens on, and tells of others there.

    Args:
        own: where this node is.
        network: id of its network; only others of it are told of.
        loopback: keep to this machine, as a node does that listens on loopback only.
    """

    name = "lan"

    def __init__(self, own: PeerAddress, network: str, *, loopback: bool) -> None:
        self._own = own
        self._network = network
        self._loopback = loopback

    async def run(self, found: Found) -> None:
        """Until cancelled. Raises ``OSError`` where there is no multicast."""
        interfaces = ["127.0.0.1"] if self._loopback else InterfaceChoice.All
        mdns = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
        names: asyncio.Queue[str] = asyncio.Queue(WAITING)

        def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            if state_change is not ServiceStateChange.Removed and name != self._instance:
                with suppress(asyncio.QueueFull):
                    names.put_nowait(name)

        try:
            browser = AsyncServiceBrowser(mdns.zeroconf, [SERVICE], handlers=[changed])
            try:
                # the name is this node's own key: nobody else can have it, so none is asked whether it is free
                await mdns.async_register_service(self._announcement(), cooperating_responders=True)
                while True:
                    await self._resolve(mdns.zeroconf, await names.get(), found)
            finally:
                await browser.async_cancel()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await mdns.async_unregister_all_services()
            await mdns.async_close()

    @property
    def _instance(self) -> str:
        return f"{self._own.key.hex()[:32]}.{SERVICE}"

    def _announcement(self) -> AsyncServiceInfo:
        """Of every address here: all with the one port of the endpoint. Raises ``TiramiError`` where there is none."""
        ways = [way for way in map(HostPort.parse, self._own.direct) if way.ip is not None and way.ip.version == 4]
        if not ways:
            raise TiramiError("this node has no IPv4 address to announce")
        return AsyncServiceInfo(
            SERVICE,
            self._instance,
            port=ways[0].port,
            parsed_addresses=[way.host for way in ways if way.port == ways[0].port],
            properties={"key": self._own.key.hex(), "network": self._network},
            server=f"{self._own.key.hex()[:32]}.local.",
        )

    async def _resolve(self, zeroconf: Zeroconf, name: str, found: Found) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        try:
            if not await info.async_request(zeroconf, RESOLVE_MS):
                return
            address = _address(info, self._network)
        except (TiramiError, ZeroconfError, ValueError) as error:
            _log.debug("lan_record_ignored", record=name[:80], reason=str(error))
            return
        if address is not None and address.key != self._own.key:
            found([address], Trust.NEAR)


def _address(info: AsyncServiceInfo, network: str) -> PeerAddress | None:
    """What the records of one node say; ``None`` for one of another network. Raises for nonsense."""
    properties = info.decoded_properties
    if properties.get("network") != network:
        return None
    key = parse_node_id(properties.get("key") or "")
    hosts = [ip_address(text) for text in info.parsed_addresses()[:MAX_WAYS]]
    ways = (f"[{host}]:{info.port}" if host.version == 6 else f"{host}:{info.port}" for host in hosts)
    return PeerAddress(key, tuple(ways))
