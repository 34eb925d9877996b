"""What is shown to peers is on disk; and a disk that is slow or refuses is the node's own trouble, not its peers'."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.mesh import Grants, Member, converged, members
from tests.net.test_gossip import meshed
from tests.net.test_watch import gift
from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import StorageUnavailable
from tirami.core.keys import SigningKey
from tirami.ledger.records import Records as Stored
from tirami.net import Endpoint, peer
from tirami.net.rotations import Rotations
from tirami.testing import Link, MemoryNetwork, VirtualClock

Pair = tuple[Member, Member, Grants]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two nodes that do not know each other, in real time: a disk that hangs holds up a virtual clock."""
    clock = SystemClock()
    grants, memory = Grants(clock), MemoryNetwork()

    async def bind(key: SigningKey) -> Endpoint:
        return memory.endpoint(key.public_key)

    async with members(tmp_path, 2, bind, grants.network, clock) as (first, second):
        yield first, second, grants


async def acquainted(one: Member, other: Member) -> None:
    one.mesh.keep(other.mesh.address())
    await until(lambda: one.mesh.peers and other.mesh.peers)


async def test_what_is_not_on_disk_is_given_to_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    node, stranger, grants = pair
    payer = SigningKey.generate()
    await node.ledger.book_record(gift(grants.network.id, payer, 1))[1]
    disk = Disk(node.ledger, monkeypatch)
    disk.hold()
    _, written = node.ledger.book_record(gift(grants.network.id, payer, 2, settled=10))
    await acquainted(stranger, node)
    await until(lambda: stranger.records)
    await asyncio.sleep(0.5)
    assert stranger.records == 1, "the second may still be lost, and its number signed again"
    disk.full = True
    disk.release()
    with pytest.raises(StorageUnavailable):
        await written
    disk.full = False
    await until(lambda: node.ledger._journal.accepting)
    await node.ledger.book_record(gift(grants.network.id, payer, 2, settled=10))[1]
    await converged([node, stranger], 2, SystemClock(), 10)
    assert not stranger.ledger.state.settings.convicted


async def test_a_key_has_ended_for_others_when_that_is_on_disk(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    node, other, _ = pair
    rotations, key = [Rotations(one.ledger, one.mesh) for one in (node, other)], SigningKey.generate()
    await acquainted(node, other)
    disk = Disk(node.ledger, monkeypatch)
    disk.hold()
    order = asyncio.create_task(rotations[0].order(key, None))
    await disk.writing.wait()
    await asyncio.sleep(0.2)
    assert not other.ledger.state.succession.ended(key.public_key)
    disk.full = True
    disk.release()
    with pytest.raises(StorageUnavailable):
        await order
    await asyncio.sleep(0.2)
    assert not other.ledger.state.succession.ended(key.public_key)
    disk.full = False
    await rotations[0].order(key, None)
    await until(lambda: other.ledger.state.succession.ended(key.public_key))


async def test_a_disk_that_hangs_is_no_silent_peer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    node, other, grants = pair
    monkeypatch.setattr(peer, "PING_S", 0.1)
    monkeypatch.setattr(peer, "SILENCE_S", 0.5)
    await acquainted(node, other)
    connected = other.mesh.peers[node.key.public_key]
    disk = Disk(other.ledger, monkeypatch)
    disk.hold()
    for _ in range(3):
        await node.ledger.book_record(grants.next())[1]
        await asyncio.sleep(0.5)
    heard = connected._heard_s
    await until(lambda: connected._heard_s > heard)
    disk.release()
    await converged([node, other], 3, SystemClock(), 10)
    assert other.mesh.peers[node.key.public_key] is connected
    assert not connected.gone.is_set()


def test_a_refused_write_costs_no_peer_and_no_part_of_the_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        full, other = nodes
        for _ in range(100):
            full.ledger.book_record(grants.next())
        await acquainted(full, other)
        await converged(nodes, 100, VirtualClock(), 10)
        before = [node.mesh.peers[key] for node, key in ((full, other.key.public_key), (other, full.key.public_key))]
        disk, read = Disk(full.ledger, monkeypatch), 0
        look_up = Stored.__getitem__

        def counted(records: Stored, index: int) -> object:
            nonlocal read
            read += records is full.ledger.state.records
            return look_up(records, index)

        monkeypatch.setattr(Stored, "__getitem__", counted)
        disk.full = True
        for _ in range(10):
            await other.ledger.book_record(grants.next())[1]
            await asyncio.sleep(1)
        assert full.records == 100
        assert read == 0, "what was taken in before is not read again"
        disk.full = False
        await converged(nodes, 110, VirtualClock(), 70)
        after = [node.mesh.peers[key] for node, key in ((full, other.key.public_key), (other, full.key.public_key))]
        assert before == after, "one and the same connection"

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
