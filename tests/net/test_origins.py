"""Where connections come from: 16 of one neighbourhood, a thousand in all, and whoever leaves makes room."""

import asyncio

import pytest

from tests.net.test_kept import NETWORK
from tirami.core.clock import SystemClock
from tirami.core.errors import MeshError
from tirami.core.keys import SigningKey
from tirami.net.hello import Identity
from tirami.net.mesh import MAX_PEERS, Mesh
from tirami.net.origins import PER_NEIGHBOURHOOD, Origins
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually
from tirami.testing.streams import MemoryConnection


@pytest.mark.parametrize(
    ("near", "other"),
    [
        ([f"8.8.8.{host}:1" for host in range(20)], "8.8.9.1:1"),
        ([f"[2a00:1450:4001:{net:x}::1]:1" for net in range(20)], "[2a00:1450:4002::1]:1"),
    ],
    ids=["a /24", "a /48"],
)
def test_sixteen_of_one_neighbourhood(near: list[str], other: str) -> None:
    origins = Origins(MAX_PEERS)
    for way in near[:PER_NEIGHBOURHOOD]:
        assert origins.full(way) is None
        origins.enter(way)
    assert PER_NEIGHBOURHOOD == 16
    assert origins.full(near[16]) == "16 peers of this neighbourhood are connected"
    assert origins.full(other) is None
    origins.leave(near[3])
    assert origins.full(near[16]) is None


@pytest.mark.parametrize("way", ["127.0.0.1:1", "10.1.2.3:1", "192.168.1.7:1", "[fd00::1]:1", "[fe80::1%2]:1", None])
def test_ones_own_networks_and_relays_count_in_all_only(way: str | None) -> None:
    origins = Origins(MAX_PEERS)
    for _ in range(MAX_PEERS):
        assert origins.full(way) is None
        origins.enter(way)
    assert origins.full(way) == origins.full("8.8.8.8:1") == "1000 peers are connected"
    origins.leave(way)
    assert origins.full(way) is None


def test_nothing_is_kept_of_who_left() -> None:
    origins = Origins(MAX_PEERS)
    for _ in range(3):
        origins.enter("8.8.8.8:1")
    for _ in range(3):
        origins.leave("8.8.8.8:1")
    assert not origins._near and origins._all == 0


async def test_a_full_node_takes_nobody_more_until_somebody_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.net.mesh.MAX_PEERS", 2)
    memory = MemoryNetwork(seed=1)
    full, *others = [
        Mesh(memory.endpoint(SigningKey.generate().public_key), Identity(NETWORK, "test"), SystemClock())
        for _ in range(4)
    ]
    async with full.running(), others[0].running(), others[1].running(), others[2].running():
        for other in others[:2]:
            await other.connect(full.address())
            await full.wait_for(other.key, 5)
        with pytest.raises(MeshError):
            await others[2].connect(full.address())
        assert set(full.peers) == {other.key for other in others[:2]}
        full.peers[others[0].key].close("make room")
        while others[0].key in full.peers:
            await asyncio.sleep(0.01)
        await others[2].connect(full.address())
        await full.wait_for(others[2].key, 5)


def test_who_moves_gives_back_the_place_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection's path may change, to a relay and back, or with the router in front of it."""
    where = ["8.8.8.8:1"]
    monkeypatch.setattr(MemoryConnection, "remote", property(lambda _: where[0]))

    async def main() -> None:
        memory, clock = MemoryNetwork(seed=1), VirtualClock()
        keys = [SigningKey.generate() for _ in range(2)]
        own, other = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys]
        async with own.running(), other.running():
            await own.connect(other.address())
            await other.wait_for(own.key, 5)
            assert [sum(mesh._origins._near.values()) for mesh in (own, other)] == [1, 1]
            where[0] = "1.1.1.1:1"
            own.peers[other.key].close("done")
            await asyncio.sleep(5)
            assert not own._origins._near and not other._origins._near

    run_virtually(main())


def test_who_comes_all_at_once_is_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryConnection, "remote", property(lambda _: "8.8.8.8:1"))

    async def main() -> None:
        memory, clock = MemoryNetwork(seed=1), VirtualClock()
        endpoints = [memory.endpoint(SigningKey.generate().public_key) for _ in range(2 * PER_NEIGHBOURHOOD)]
        full = Mesh(memory.endpoint(SigningKey.generate().public_key), Identity(NETWORK, "test"), clock)
        come = [asyncio.create_task(endpoint.connect(full.address(), 5)) for endpoint in endpoints]
        await asyncio.wait(come)  # before anybody is let in
        async with full.running():
            await asyncio.sleep(1)
            assert full._origins._near.total() == PER_NEIGHBOURHOOD

    run_virtually(main())
