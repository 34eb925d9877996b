"""Signals of others: what is refused, what is forgotten, and what a newcomer is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import pytest

from tirami.core.clock import APART_MS
from tirami.core.keys import SigningKey
from tirami.core.units import MICRO, Ppm
from tirami.market import PeerRegistry
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.signals import PRUNE_S, Signals
from tirami.proto import NetworkFile, Offering, Signal, SignalSeen, SignedBody, encode, sign
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)
ZERO = bytes(32)


@dataclass
class Member:
    key: SigningKey
    mesh: Mesh
    registry: PeerRegistry

    def signed(self, signer: SigningKey | None = None, models: int = 1, **changed: object) -> SignalSeen:
        """What a stranger says, at this moment."""
        key = signer or SigningKey.generate()
        offering = Offering(100 * "m", ZERO, ZERO, 2048, 10**9, 10**9, 10, 100, "none", 250_000, 1_000_000)
        now = VirtualClock().now_ms()
        said = Signal(NETWORK.id, key.public_key, MICRO, 60_000, 4, 0, (), models * (offering,), 90_000, now)
        said = msgspec.structs.replace(said, **changed)
        return SignalSeen(SignedBody(encode(said), sign(said, key)))

    async def tell(self, other: "Member", message: SignalSeen) -> None:
        self.mesh.peers[other.mesh.key].send(message)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def members(count: int, in_line: int | None = None) -> AsyncIterator[list[Member]]:
    """So many of them connected in a line, one after the other, by default all; nobody sells."""
    clock, memory, made = VirtualClock(), MemoryNetwork(seed=3), []
    works = []
    for _ in range(count):
        key = SigningKey.generate()
        mesh = Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock)
        registry = PeerRegistry(lambda _: Ppm(500_000))
        works.append(Signals(mesh, registry, key, lambda: None, clock.now_ms, clock).run)
        made.append(Member(key, mesh, registry))

    async def one(member: Member, ready: asyncio.Event) -> None:
        async with member.mesh.running():
            ready.set()
            await asyncio.Event().wait()

    tasks = []
    for member, work in zip(made, works, strict=True):
        ready = asyncio.Event()
        tasks += [asyncio.create_task(one(member, ready)), asyncio.create_task(work())]
        await ready.wait()
    for left, right in pairwise(made[:in_line]):
        await left.mesh.connect(right.mesh.address())
        await right.mesh.wait_for(left.mesh.key, 5)
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_forged_one_ends_the_connection() -> None:
    async def main() -> None:
        async with members(2) as (a, b):
            good = a.signed()
            forged = SignalSeen(SignedBody(good.signal.body, bytes(64)))
            await a.tell(b, forged)
            assert a.mesh.key not in b.mesh.peers
            assert len(b.registry) == 0

    run_virtually(main())


def test_one_that_ended_one_from_the_future_and_one_of_another_network_are_dropped_and_not_passed_on() -> None:
    async def main() -> None:
        async with members(3) as (a, b, c):
            now = VirtualClock().now_ms()
            ended = SignalSeen(a.signed().signal, 90_000)
            await a.tell(b, ended)
            for changed in (
                {"at_ms": now - 91_000 - APART_MS},
                {"at_ms": now + 1_000 + APART_MS},
                {"network": "othernet"},
            ):
                await a.tell(b, a.signed(**changed))
            assert (len(b.registry), len(c.registry)) == (0, 0)
            assert a.mesh.key in b.mesh.peers, "it may merely be late"
            await a.tell(b, a.signed())
            assert (len(b.registry), len(c.registry)) == (1, 1)

    run_virtually(main())


@pytest.mark.parametrize("ahead_ms", [180_000, -180_000, 700_000, -700_000])
def test_whatever_a_clock_says_a_signal_counts_from_when_it_came_on_its_whole_way(ahead_ms: int) -> None:
    async def main() -> None:
        async with members(4, in_line=3) as (a, b, c, late):
            said = a.signed(at_ms=VirtualClock().now_ms() + ahead_ms)
            await a.tell(b, said)
            assert (len(b.registry), len(c.registry)) == (1, 1)
            await asyncio.sleep(80)
            await late.mesh.connect(c.mesh.address())
            await asyncio.sleep(1)
            assert len(late.registry) == 1
            await asyncio.sleep(10 + PRUNE_S)
            assert (len(b.registry), len(c.registry), len(late.registry)) == (0, 0, 0), "no newcomer made it younger"
            await b.tell(c, said)
            assert len(c.registry) == 0, "an old signal is no news again"

    run_virtually(main())


def test_signals_are_told_apart_also_while_the_time_stands_still() -> None:
    """As a ledger's does whose clock once stood in the future."""

    async def main() -> None:
        clock, memory = VirtualClock(), MemoryNetwork(seed=3)
        keys = [SigningKey.generate() for _ in range(2)]
        seller, buyer = (Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys)
        registries = [PeerRegistry(lambda _: Ppm(500_000)) for _ in keys]
        offering = Offering("m", ZERO, ZERO, 2048, 10**9, 10**9, 10, 100, "none", 250_000, 1_000_000)
        own = Signal(NETWORK.id, keys[0].public_key, MICRO, 60_000, 4, 0, (), (offering,), 1, 0)
        stands = clock.now_ms()
        tells = Signals(seller, registries[0], keys[0], lambda: own, lambda: stands, clock)
        Signals(buyer, registries[1], keys[1], lambda: None, clock.now_ms, clock)
        async with seller.running(), buyer.running():
            await buyer.connect(seller.address())
            telling = asyncio.create_task(tells.run())
            await asyncio.sleep(150)
            known = registries[1].get(keys[0].public_key)
            telling.cancel()
        assert known is None or known.fresh(clock.now_ms())
        assert known is not None

    run_virtually(main())


def test_a_flood_of_made_up_keys_leaves_connected_providers_known() -> None:
    """Also where it arrives through an honest neighbour that passes it on."""

    async def main() -> None:
        async with members(3) as (a, b, c):
            await c.tell(b, c.signed(c.key))
            await b.tell(c, b.signed(b.key))
            assert b.registry.get(c.mesh.key) is not None
            for _ in range(330):
                a.mesh.peers[b.mesh.key].send(a.signed(models=60))
                await asyncio.sleep(0.02)
            assert len(b.registry) > 20
            assert b.registry.get(c.mesh.key) is not None
            assert c.registry.get(b.mesh.key) is not None

    run_virtually(main())


def test_what_has_ended_is_forgotten() -> None:
    async def main() -> None:
        async with members(2) as (a, b):
            await a.tell(b, a.signed(lifetime_ms=10_000))
            assert len(b.registry) == 1
            await asyncio.sleep(10 + PRUNE_S + 1)
            assert len(b.registry) == 0

    run_virtually(main())


def test_a_newcomer_is_told_of_connected_peers_first() -> None:
    async def main() -> None:
        async with members(4, in_line=3) as (a, b, c, newcomer):
            await c.tell(b, c.signed(c.key))
            for _ in range(60):  # of 9 kB each: more than a newcomer is told
                a.mesh.peers[b.mesh.key].send(a.signed(models=60))
                await asyncio.sleep(0.02)
            await newcomer.mesh.connect(b.mesh.address())
            await asyncio.sleep(1)
            assert newcomer.registry.get(c.mesh.key) is not None
            assert 0 < len(newcomer.registry) < len(b.registry)

    run_virtually(main())
