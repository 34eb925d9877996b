"""Who is let in: handshakes of incoming connections, bounded before they cost anything.

A handshake costs its beginner one datagram and the other side a signature and seconds of patience. So there are so
many places and no more, a host may hold a part of them, and once half are taken whoever comes must first show that it
receives where it says it sends from (RFC 9000, 8.1.2). A host that comes again and again waits.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

import structlog

from tirami.core.keys import is_acceptable_point
from tirami.net.bindings import iroh
from tirami.net.budget import Bucket
from tirami.net.quic import IrohConnection

_log = structlog.get_logger()
PLACES = 64
"""Connections that shake hands or wait for ``accept``; further ones wait in the library."""
CROWDED = PLACES // 2
"""Places taken from which on an address must be validated."""
PER_HOST = 16
"""Handshakes of one host at a time; datagrams beyond it are dropped, and an honest peer sends them again."""
HANDSHAKE_S = 5.0
OF_HOST = (2.0, 32.0)
"""Handshakes of one host, a second and at once: the library remembers each stranger for a minute, in 19 KB."""
OF_ALL = (40.0, 256.0)
"""Those of all hosts."""
HOSTS = 4_096
"""Hosts whose handshakes are counted."""


class Doorman:
    """Takes incoming connections off an endpoint until that is closed.

    Args:
        endpoint: whose.
        own: makes a proven connection one of the endpoint's.

    Attributes:
        end: the task that does it; over when the endpoint is closed.
    """

    def __init__(self, endpoint: iroh.Endpoint, own: Callable[[iroh.Connection], IrohConnection]) -> None:
        self._endpoint = endpoint
        self._own = own
        self._arrived: asyncio.Queue[IrohConnection | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(PLACES)
        self._taken = 0
        self._by_host: Counter[str] = Counter()
        self._rates: OrderedDict[str, Bucket] = OrderedDict()
        self._rate = Bucket(*OF_ALL, asyncio.get_running_loop().time())
        self.end = asyncio.create_task(self._admit(), name="mesh doorman")

    async def next(self) -> IrohConnection | None:
        """The next proven peer; ``None`` once the endpoint is closed."""
        connection = await self._arrived.get()
        if connection is None or self._endpoint.is_closed():
            self._arrived.put_nowait(None)  # for whoever asks next
            return None
        self._leave()
        return connection

    async def _admit(self) -> None:
        try:
            async with asyncio.TaskGroup() as handshakes:
                while (incoming := await self._endpoint.accept_next()) is not None:
                    if (host := await self._let_in(incoming)) is None:
                        continue
                    await self._places.acquire()
                    self._taken += 1
                    self._by_host[host] += 1
                    handshakes.create_task(self._greet(incoming, host))
        finally:
            self._arrived.put_nowait(None)

    async def _let_in(self, incoming: iroh.Incoming) -> str | None:
        """The host it comes from; ``None`` for who is turned away, and for who is gone by now."""
        try:
            host = await _host(incoming)
            if self._by_host[host] >= PER_HOST or not self._timely(host):
                await incoming.ignore()
            elif self._taken >= CROWDED and not await incoming.remote_addr_validated():
                await incoming.retry()
            else:
                return host
        except iroh.IrohError as error:
            _log.debug("connection_gone", reason=str(error))
        return None

    def _timely(self, host: str) -> bool:
        """Whether it, and all together, have not come too often lately."""
        now = asyncio.get_running_loop().time()
        rate = self._rates.get(host)
        if rate is None:
            rate = self._rates[host] = Bucket(*OF_HOST, now)
            if len(self._rates) > HOSTS:
                self._rates.popitem(last=False)
        self._rates.move_to_end(host)
        return rate.allows(1, now) and self._rate.allows(1, now)

    async def _greet(self, incoming: iroh.Incoming, host: str) -> None:
        connection = None
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                connection = await (await incoming.accept()).connect()
        except (TimeoutError, iroh.IrohError):
            pass  # whoever dialled is told by its own side, or gone
        finally:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]
        if connection is not None and is_acceptable_point(connection.remote_id().to_bytes()):
            self._arrived.put_nowait(self._own(connection))
            return
        if connection is not None:
            connection.close(0, b"")
        self._leave()

    def _leave(self) -> None:
        self._taken -= 1
        self._places.release()


async def _host(incoming: iroh.Incoming) -> str:
    """What counts as one host: an IP address, the /64 of an IPv6 one, a key at a relay (which has proven it there)."""
    came_from = await incoming.remote_addr()
    if isinstance(came_from, iroh.IncomingAddr.IP):
        return host_of(came_from.addr)
    if isinstance(came_from, iroh.IncomingAddr.RELAY):
        return came_from.endpoint_id.to_bytes().hex()
    return "elsewhere"


def host_of(address: str) -> str:
    """The part of ``ip:port`` that one person has to themselves."""
    ip = ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0])
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))
    return str(ip)
