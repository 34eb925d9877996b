"""Calls for a purchase, in memory under the virtual clock: who is called, how often, and for how long it stays."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tirami.core.errors import MeshError, PeerUnreachable
from tirami.core.keys import PublicKey, SigningKey
from tirami.core.units import MICRO, Ppm
from tirami.market import PeerRegistry
from tirami.net import Connection, PeerAddress, Stream
from tirami.net.addressbook import AddressBook, Trust
from tirami.net.dialler import IDLE_S, LOOK_S, MOST, Dialler
from tirami.net.exchange import Exchange
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.signals import Signals
from tirami.proto import NetworkFile, Offering, Signal
from tirami.testing import Link, MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)
OFFERING = Offering("m", bytes(32), bytes(32), 2048, 10**9, 10**9, 10, 100, "none", 250_000, 1_000_000)


@dataclass
class Member:
    mesh: Mesh
    book: AddressBook
    dialler: Dialler
    exchange: Exchange
    registry: PeerRegistry
    called: list[PeerAddress] = field(default_factory=list)

    def hears_of(self, *others: "Member") -> None:
        self.book.hear("somebody", [other.mesh.address() for other in others], Trust.NEAR)

    def why_not(self, key: PublicKey) -> str:
        obstacle = self.dialler.obstacle(key)
        assert obstacle is not None
        return obstacle


@asynccontextmanager
async def member(memory: MemoryNetwork, seed: int, *, may: bool = True) -> AsyncIterator[Member]:
    clock, key = VirtualClock(), SigningKey.generate()
    mesh = Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock)
    book, registry = AddressBook(mesh.key, Random(seed)), PeerRegistry(lambda _: Ppm(500_000))
    exchange = Exchange(mesh, book, clock, clock.now_ms, Random(seed), target=1)
    own = Signal(NETWORK.id, key.public_key, MICRO, 60_000, 4, 0, (), (OFFERING,), 90_000, 0)
    signals = Signals(mesh, registry, key, lambda: own, clock.now_ms, clock)
    made = Member(mesh, book, Dialler(mesh, book, clock, may=may), exchange, registry)
    connect = mesh._endpoint.connect

    async def counted(address: PeerAddress, timeout_s: float) -> Connection:
        made.called.append(address)
        return await connect(address, timeout_s)

    mesh._endpoint.connect = counted  # type: ignore[method-assign]
    async with mesh.running():
        works = [asyncio.create_task(work()) for work in (made.dialler.run, signals.run)]
        try:
            yield made
        finally:
            for task in works:
                task.cancel()
            await asyncio.wait(works)


def play(count: int, scene: Callable[[list[Member], MemoryNetwork], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        memory = MemoryNetwork(seed=1, link=Link(delay_s=0.02))
        async with AsyncExitStack() as stack:
            await scene([await stack.enter_async_context(member(memory, number)) for number in range(count)], memory)

    run_virtually(main())


def made_up(ways: Iterable[str]) -> PeerAddress:
    return PeerAddress(SigningKey.generate().public_key, tuple(ways))


def test_one_of_whom_an_address_is_known_is_called_once_however_many_want_it() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller = nodes
        assert buyer.why_not(seller.mesh.key) == "not connected: no address of it is known"
        with pytest.raises(PeerUnreachable, match="no address"):
            await buyer.dialler.reach(seller.mesh.key, 5)
        buyer.hears_of(seller)
        assert buyer.dialler.obstacle(seller.mesh.key) is None
        peers = await asyncio.gather(*(buyer.dialler.reach(seller.mesh.key, 5) for _ in range(50)))
        assert set(peers) == {buyer.mesh.peers[seller.mesh.key]} and len(buyer.called) == 1
        assert await buyer.dialler.reach(seller.mesh.key, 5) is peers[0]

    play(2, scene)


def test_two_parts_of_a_node_that_want_the_same_peer_call_it_once() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        own, other = nodes
        first, second = await asyncio.gather(*(own.mesh.connect(other.mesh.address()) for _ in range(2)))
        assert first is second and len(own.called) == 1

    play(2, scene)


def test_who_does_not_answer_is_left_alone_for_a_while_and_whoever_waits_is_told_at_once() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        (buyer,), clock = nodes, VirtualClock()
        gone = made_up(["10.9.9.9:1"])
        buyer.book.hear("liar", [gone], Trust.NEAR)
        told = await asyncio.gather(*(buyer.dialler.reach(gone.key, 1.5) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(error, PeerUnreachable) for error in told) and len(buyer.called) == 1
        assert clock.monotonic() < 2
        assert buyer.why_not(gone.key) == "not connected: dial failed, again in 30 s"
        await asyncio.sleep(10)
        assert buyer.why_not(gone.key) == "not connected: dial failed, again in 20 s"
        await asyncio.sleep(21)
        assert buyer.dialler.obstacle(gone.key) is None
        for _ in range(2):
            with pytest.raises(PeerUnreachable):
                await buyer.dialler.reach(gone.key, 5)
            await asyncio.sleep(100)
        assert buyer.why_not(gone.key) == "not connected: no address of it is known", "three in vain are enough"

    play(1, scene)


def test_a_request_that_is_given_up_says_nothing_against_the_peer() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        (buyer,) = nodes
        slow = made_up(["10.9.9.9:1"])
        buyer.book.hear("somebody", [slow], Trust.NEAR)
        request = asyncio.create_task(buyer.dialler.reach(slow.key, 5))
        await asyncio.sleep(1)
        request.cancel()
        await asyncio.wait([request])
        assert buyer.dialler.obstacle(slow.key) is None

    play(1, scene)


def test_a_flood_of_made_up_providers_costs_a_dozen_calls_a_minute() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        (buyer,) = nodes
        flood = [made_up([f"10.9.9.{n}:1"]) for n in range(64)]
        buyer.book.hear("liar", flood, Trust.NEAR)
        for _ in range(60):
            tries = (buyer.dialler.reach(address.key, 0.5) for address in flood)
            await asyncio.gather(*tries, return_exceptions=True)
            await asyncio.sleep(0.5)
        assert 12 <= len(buyer.called) <= 6 + 12

    play(1, scene)


def test_a_neighbourhood_is_called_no_oftener_however_many_are_said_to_live_there() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        (buyer,) = nodes
        crowd = [made_up(f"8.8.8.{8 * n + way}:1" for way in range(6)) for n in range(3)]
        elsewhere = made_up(["9.9.9.9:1"])
        buyer.book.hear("liar", [*crowd, elsewhere], Trust.FAR)
        tries = (buyer.dialler.reach(address.key, 1) for address in [*crowd, elsewhere])
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert "neighbourhood" in str(told[2])
        assert [len(address.direct) for address in buyer.called] == [6, 2, 1]

    play(1, scene)


def test_nobody_beyond_the_cap_is_called() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller, kept = nodes
        buyer.hears_of(seller)
        buyer.mesh._origins._most = 0
        assert buyer.why_not(seller.mesh.key) == "not connected: 0 peers are connected"
        with pytest.raises(PeerUnreachable):
            await buyer.dialler.reach(seller.mesh.key, 5)
        with pytest.raises(MeshError, match="0 peers are connected"):
            await buyer.mesh.connect(seller.mesh.address())
        buyer.mesh.keep(kept.mesh.address())
        await buyer.mesh.wait_for(kept.mesh.key, 5)

    play(3, scene)


def test_no_more_than_so_many_are_connected_for_purchases() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, *sellers = nodes
        buyer.hears_of(*sellers)
        for seller in sellers[:MOST]:
            await buyer.dialler.reach(seller.mesh.key, 5)
            await asyncio.sleep(5)
        assert len(buyer.mesh.peers) == MOST
        assert "were called for purchases" in buyer.why_not(sellers[-1].mesh.key)
        await asyncio.sleep(IDLE_S)
        assert buyer.dialler.obstacle(sellers[-1].mesh.key) is None

    play(MOST + 2, scene)


def test_what_those_who_were_called_ask_here_keeps_no_place_for_a_purchase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.net.dialler.MOST", 1)
    over = asyncio.Event()

    async def patient(peer: Peer, stream: Stream) -> None:
        await over.wait()

    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, stranger, seller = nodes
        buyer.mesh.on_stream(patient)
        buyer.hears_of(stranger, seller)
        await buyer.dialler.reach(stranger.mesh.key, 5)
        asking = await stranger.mesh.wait_for(buyer.mesh.key, 5)
        await (await asking.connection.open()).write(b"a")
        assert "were called for purchases" in buyer.why_not(seller.mesh.key)
        await asyncio.sleep(IDLE_S + 2 * LOOK_S)
        await buyer.dialler.reach(seller.mesh.key, 5)
        assert stranger.mesh.key in buyer.mesh.peers, "it may be buying here"
        over.set()
        await asyncio.sleep(2 * LOOK_S)
        assert list(buyer.mesh.peers) == [seller.mesh.key]

    play(3, scene)


def test_who_is_idle_is_let_go_and_what_it_sells_stays_known() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller = nodes
        buyer.hears_of(seller)
        peer = await buyer.dialler.reach(seller.mesh.key, 5)
        await asyncio.sleep(IDLE_S - LOOK_S)
        stream = await peer.places.open()
        await asyncio.sleep(2 * IDLE_S)
        assert buyer.mesh.peers[seller.mesh.key] is peer, "something is being bought of it"
        await stream.reset()
        await asyncio.sleep(IDLE_S + 2 * LOOK_S)
        assert seller.mesh.key not in buyer.mesh.peers and buyer.mesh.key not in seller.mesh.peers
        known = buyer.registry.get(seller.mesh.key)
        assert known is not None and known.fresh(VirtualClock().now_ms())
        assert seller.registry.get(buyer.mesh.key) is None, "for the other it is gone"
        assert await buyer.dialler.reach(seller.mesh.key, 5) is not peer

    play(2, scene)


def test_who_breaks_off_is_forgotten_as_ever() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller = nodes
        buyer.hears_of(seller)
        await buyer.dialler.reach(seller.mesh.key, 5)
        await asyncio.sleep(1)
        assert buyer.registry.get(seller.mesh.key) is not None
        memory.drop(buyer.mesh.key, seller.mesh.key)
        await asyncio.sleep(1)
        assert buyer.registry.get(seller.mesh.key) is None

    play(2, scene)


def test_a_wish_is_called_and_nobody_waits_and_it_is_no_connection_of_this_nodes_choice() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller, other = nodes
        buyer.hears_of(seller)
        buyer.dialler.wish(made_up(["10.9.9.9:1"]).key)
        buyer.dialler.wish(seller.mesh.key)
        await buyer.mesh.wait_for(seller.mesh.key, 1)
        assert not buyer.exchange.enough
        await buyer.mesh.connect(other.mesh.address())
        assert buyer.exchange.enough

    play(3, scene)


def test_peers_are_asked_only_for_who_has_no_address_and_is_wanted() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller, met = nodes
        asked: list[None] = []
        buyer.dialler._ask = lambda: asked.append(None)
        buyer.hears_of(seller)
        await buyer.mesh.connect(met.mesh.address())
        buyer.dialler.seek([seller.mesh.key, met.mesh.key])
        assert not asked
        buyer.dialler.seek([seller.mesh.key, made_up([]).key])
        assert len(asked) == 1
        buyer.dialler._may = False
        buyer.dialler.seek([made_up([]).key])
        assert len(asked) == 1

    play(3, scene)


def test_wishes_leave_calls_for_who_waits() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller = nodes
        flood = [made_up([f"10.9.9.{n}:1"]) for n in range(40)]
        buyer.book.hear("liar", flood, Trust.NEAR)
        buyer.hears_of(seller)
        for address in flood:
            buyer.dialler.wish(address.key)
            await asyncio.sleep(1.5)
        assert 2 <= len(buyer.called) <= 2 + 3
        await buyer.dialler.reach(seller.mesh.key, 5)

    play(2, scene)


def test_a_connection_of_this_nodes_choice_stays_one_when_it_is_wanted_for_a_purchase() -> None:
    async def scene(nodes: list[Member], memory: MemoryNetwork) -> None:
        buyer, seller = nodes
        buyer.hears_of(seller)
        chosen = buyer.mesh.connect(seller.mesh.address())
        peers = await asyncio.gather(chosen, buyer.dialler.reach(seller.mesh.key, 5))
        assert peers[0] is peers[1] and buyer.exchange.enough
        await asyncio.sleep(2 * IDLE_S)
        assert seller.mesh.key in buyer.mesh.peers

    play(2, scene)


def test_one_that_is_kept_or_where_nobody_may_be_called_is_not_called() -> None:
    async def main() -> None:
        memory = MemoryNetwork(seed=1)
        async with member(memory, 1, may=False) as lone, member(memory, 2) as other:
            lone.hears_of(other)
            assert "mesh.peers = 0" in lone.why_not(other.mesh.key)
            memory.cut(lone.mesh.key, other.mesh.key)
            other.mesh.keep(lone.mesh.address())
            assert other.why_not(lone.mesh.key) == "not connected: it is called until it answers"

    run_virtually(main())
