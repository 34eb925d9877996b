"""A network in memory: the transport's contract with delay, loss, partitions and a virtual clock.

What runs over :mod:`tirami.net.iroh` runs over this, unchanged; in :func:`tirami.testing.loop.run_virtually` hours of
it pass in a moment. From one seed it does the same each time.

::

    network = MemoryNetwork(seed=7, link=Link(delay_s=0.03, jitter_s=0.01, loss=0.02))
    a, b = network.endpoint(key_a), network.endpoint(key_b)
    network.partition([[key_a], [key_b]])   # nothing gets across, connections time out after Link.idle_s
    network.heal()
"""

import asyncio
from collections.abc import Collection, Iterable
from random import Random

from tirami.core.errors import PeerUnreachable
from tirami.core.keys import PublicKey
from tirami.net.address import PeerAddress
from tirami.testing.links import Link, Traffic, Way
from tirami.testing.streams import MemoryConnection

BACKLOG = 64
"""Connections that wait for ``accept``; whoever dials beyond it waits."""


class _Between:
    """Two nodes: the way there, the way back, and their connections."""

    def __init__(self, network: "MemoryNetwork", low: PublicKey, high: PublicKey) -> None:
        link, seed = network.link, network.seed
        self.ways = {
            sender: Way(link, Random(f"{seed}/{sender.hex()}/{receiver.hex()}"), network.traffic)
            for sender, receiver in ((low, high), (high, low))
        }
        self.chance = Random(f"{seed}/{low.hex()}/{high.hex()}/connections")
        self.connections: dict[MemoryConnection, asyncio.TimerHandle | None] = {}
        self.cut = False

    @property
    def link(self) -> Link:
        return next(iter(self.ways.values())).link

    def set_link(self, link: Link) -> None:
        for way in self.ways.values():
            way.link = link

    def set_cut(self, cut: bool) -> None:
        if cut == self.cut:
            return
        self.cut = cut
        for connection, timer in self.connections.items():
            if timer is not None:
                timer.cancel()
            self.connections[connection] = self._give_up_later(connection) if cut else None
        for way in self.ways.values():
            if cut:
                way.cut = True
            else:
                way.heal()

    def add(self, connection: MemoryConnection) -> None:
        """The caller's end of a new pair."""
        self.connections[connection] = self._give_up_later(connection) if self.cut else None
        lifetime = self.link.lifetime_s
        breaking = None
        if lifetime is not None:
            after = self.chance.expovariate(1 / lifetime)
            breaking = asyncio.get_running_loop().call_later(after, connection.end_both, "the link broke")

        def forget() -> None:
            if connection.is_over:  # while one side does not know, it can still time out
                idle = self.connections.pop(connection, None)
                for timer in (idle, breaking):
                    if timer is not None:
                        timer.cancel()

        connection.watch_ends(forget)

    def _give_up_later(self, connection: MemoryConnection) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self.link.idle_s, connection.end_both, "timed out")


class MemoryNetwork:
    """Endpoints by key and the ways between them.

    Args:
        seed: of jitter, loss and broken connections; each direction between two nodes has a sequence of its own, so
            what happens on one way does not change what happens on another.
        link: how every way behaves, unless :meth:`set_link` says otherwise.

    Attributes:
        traffic: what all nodes have handed over; by direction in :meth:`sent`.
    """

    def __init__(self, *, seed: int = 0, link: Link | None = None) -> None:
        self.seed = seed
        self.link = link or Link()
        self.traffic = Traffic()
        self._by_key: dict[PublicKey, MemoryEndpoint] = {}
        self._by_way: dict[str, MemoryEndpoint] = {}
        self._numbers: dict[tuple[PublicKey, int], int] = {}
        self._between: dict[tuple[PublicKey, PublicKey], _Between] = {}
        self._side: dict[PublicKey, int] | None = None
        self._cuts: set[tuple[PublicKey, PublicKey]] = set()
        self._waiters: dict[asyncio.Future[None], None] = {}

    def endpoint(self, key: PublicKey, *, machine: int = 0) -> "MemoryEndpoint":
        """Bind a node; after its ``close`` the key can be bound again, at the same address, as after a restart.

        Args:
            machine: another one under the same key than 0; it is reached by its own address alone.
        """
        number = self._numbers.setdefault((key, machine), len(self._numbers) + 1)
        way = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:4433"
        if way in self._by_way:
            raise ValueError(f"{key.hex()[:8]} is bound already")
        endpoint = self._by_way[way] = MemoryEndpoint(self, PeerAddress(key, (way,)))
        if not machine:
            self._by_key[key] = endpoint
        self.changed()
        return endpoint

    def partition(self, groups: Iterable[Collection[PublicKey]]) -> None:
        """Nodes reach those of their own group only; whoever is in none is in one more group with the others."""
        self._side = {key: number for number, group in enumerate(groups, start=1) for key in group}
        self._apply()

    def cut(self, a: PublicKey, b: PublicKey) -> None:
        """Nothing crosses between these two, until :meth:`mend` or :meth:`heal`."""
        self._cuts.add(_pair(a, b))
        self._apply()

    def mend(self, a: PublicKey, b: PublicKey) -> None:
        """Undo a :meth:`cut`."""
        self._cuts.discard(_pair(a, b))
        self._apply()

    def heal(self) -> None:
        """Undo the partition and every cut; what was under way is sent again."""
        self._side = None
        self._cuts.clear()
        self._apply()

    def drop(self, a: PublicKey, b: PublicKey) -> None:
        """Break every connection between these two at once, on both sides; they can dial again."""
        for connection in list(self.between(a, b).connections):
            connection.end_both("the link broke")

    def set_link(self, a: PublicKey, b: PublicKey, link: Link) -> None:
        """The way between these two behaves like this from now on."""
        self.between(a, b).set_link(link)

    def sent(self, sender: PublicKey, receiver: PublicKey) -> Traffic:
        """What went one way between two nodes."""
        return self.between(sender, receiver).ways[sender].traffic

    def between(self, a: PublicKey, b: PublicKey) -> _Between:
        pair = _pair(a, b)
        if (found := self._between.get(pair)) is None:
            found = self._between[pair] = _Between(self, *pair)
            found.set_cut(self._is_cut(pair))
        return found

    def find(self, address: PeerAddress) -> "MemoryEndpoint | None":
        """Who answers there; by its key alone when the address names no way."""
        if not address.direct:
            return self._by_key.get(address.key)
        return next((self._by_way[way] for way in address.direct if way in self._by_way), None)

    def unbind(self, endpoint: "MemoryEndpoint") -> None:
        if self._by_key.get(endpoint.key) is endpoint:
            del self._by_key[endpoint.key]
        self._by_way.pop(endpoint.address().direct[0], None)

    def changed(self) -> None:
        """Wake whoever waits for a way or a node that was not there."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    def _is_cut(self, pair: tuple[PublicKey, PublicKey]) -> bool:
        apart = self._side is not None and self._side.get(pair[0], 0) != self._side.get(pair[1], 0)
        return apart or pair in self._cuts

    def _apply(self) -> None:
        for pair, between in self._between.items():
            between.set_cut(self._is_cut(pair))
        self.changed()


class MemoryEndpoint:
    """A node on the network; see :class:`tirami.net.transport.Endpoint`. Made by :meth:`MemoryNetwork.endpoint`."""

    def __init__(self, network: MemoryNetwork, address: PeerAddress) -> None:
        self._network = network
        self._address = address
        self._arrived: asyncio.Queue[MemoryConnection | None] = asyncio.Queue()
        self._connections: dict[MemoryConnection, None] = {}
        self._closed = False

    @property
    def key(self) -> PublicKey:
        return self._address.key

    def address(self) -> PeerAddress:
        return self._address

    async def connect(self, address: PeerAddress, timeout_s: float) -> MemoryConnection:
        if self._closed:
            raise PeerUnreachable("this endpoint is closed")
        if address.key == self.key:
            raise PeerUnreachable("that is this node itself")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._dial(address)
        except TimeoutError as error:
            raise PeerUnreachable(f"{address} did not answer within {timeout_s:g} s") from error

    async def accept(self) -> MemoryConnection | None:
        connection = await self._arrived.get()
        if connection is None or self._closed:
            self._arrived.put_nowait(None)  # for whoever asks next
            return None
        self._network.changed()  # a place is free
        return connection

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.unbind(self)
            for connection in list(self._connections):
                connection.close("the endpoint is closed")
            self._arrived.put_nowait(None)

    async def _dial(self, address: PeerAddress) -> MemoryConnection:
        """A round trip for the handshake, tried again while nothing gets through; bounded by the caller's timeout."""
        while True:
            called = self._network.find(address)
            if called is None or called._arrived.qsize() >= BACKLOG:
                await self._network.change()
                continue
            between = self._network.between(self.key, called.key)
            if between.cut:
                await self._network.change()
                continue
            for sender in (self, called):
                await _crossed(between.ways[sender.key])
            if called._closed:
                continue
            if called.key != address.key:
                raise PeerUnreachable(f"whoever answers at {address} does not hold its key")
            if self._closed:
                raise PeerUnreachable("this endpoint is closed")
            return self._connected(called, between)

    def _connected(self, called: "MemoryEndpoint", between: _Between) -> MemoryConnection:
        ways = between.ways
        remotes = self._address.direct[0], called._address.direct[0]
        mine, theirs = MemoryConnection.pair(self.key, called.key, ways[self.key], ways[called.key], remotes)
        between.add(mine)
        for endpoint, connection in ((self, mine), (called, theirs)):
            endpoint._keep(connection)
        called._arrived.put_nowait(theirs)
        return mine

    def _keep(self, connection: MemoryConnection) -> None:
        self._connections[connection] = None
        connection.on_end.append(lambda: self._connections.pop(connection, None))


async def _crossed(way: Way) -> None:
    arrived = asyncio.get_running_loop().create_future()
    way.carry(1, lambda: None if arrived.done() else arrived.set_result(None))
    await arrived


def _pair(a: PublicKey, b: PublicKey) -> tuple[PublicKey, PublicKey]:
    return (a, b) if a <= b else (b, a)
