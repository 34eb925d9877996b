"""A key that ended is refused by every gate; what it signed before stays (A-31)."""

import asyncio
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.mesh import Grants, Member, converged
from tests.net.test_gossip import meshed
from tests.net.test_kills import connected
from tests.net.test_logs import until
from tests.net.test_watch import gift
from tirami.core.errors import AccountDisabled, KeyFileError
from tirami.core.keys import SigningKey
from tirami.net.rotations import MOST_OF_PEER, OF_STRANGERS, Rotations
from tirami.proto import Rotation, RotationSeen, SignedBody, Successor, rotation, signed
from tirami.testing import Link, MemoryNetwork, VirtualClock


async def known(nodes: list[Member], key: SigningKey) -> None:
    async with asyncio.timeout(60):
        while not all(node.ledger.state.succession.ended(key.public_key) for node in nodes):
            await asyncio.sleep(0.1)


def test_all_hear_of_it_also_who_comes_late_and_old_records_stay(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        early, late = nodes[:3], nodes[3]
        rotations = [Rotations(node.ledger, node.mesh) for node in nodes]
        await connected(early)
        old, new = early[0].key, SigningKey.generate()
        await early[1].ledger.book_record(gift(grants.network.id, old, 1))[1]
        await converged(early, 1, VirtualClock(), 60)
        await rotations[0].order(old, Successor.agreeing(grants.network.id, old.public_key, new))
        await known(early, old)
        late.mesh.keep(early[2].mesh.address())
        await known(nodes, old)
        await converged(nodes, 1, VirtualClock(), 60)
        for node in nodes:
            assert node.ledger.state.succession.heir(old.public_key) == new.public_key
            assert node.ledger.gate.means(old.public_key).disabled
            assert not node.ledger.gate.means(new.public_key).disabled
        with pytest.raises(AccountDisabled):
            early[0].ledger.gate.check_open()
        early[1].ledger.gate.check_open()

    meshed(tmp_path, 4, Link(delay_s=0.02), play)


def test_what_an_ended_key_signs_later_is_bounded_like_what_nothing_covers(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        rotations = [Rotations(node.ledger, node.mesh) for node in nodes]
        await connected(nodes)
        thief = SigningKey.generate()
        await rotations[1].order(thief, None)
        await known(nodes, thief)
        for number in range(1, 100):
            nodes[0].ledger.book_record(gift(grants.network.id, thief, number, settled=10 * (number - 1)))
        await nodes[0].ledger.durable()
        await asyncio.sleep(5)
        assert nodes[1].records <= 64

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_whoever_brought_it_may_leave_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the journal says nothing new any more: it is told then or never."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        ended: list[Rotation] = []
        first, middle, last = nodes
        rotations = Rotations(middle.ledger, middle.mesh, ended.append)
        Rotations(last.ledger, last.mesh)
        await connected(nodes)
        key = SigningKey.generate()
        order = signed(rotation(grants.network.id, key, None, (0, 0), 0), key)
        disk, peer = Disk(middle.ledger, monkeypatch), middle.mesh.peers[first.key.public_key]
        disk.hold()
        heard = asyncio.create_task(rotations._heard(peer, RotationSeen(SignedBody(order.body, order.signature))))
        await disk.writing.wait()
        heard.cancel()
        disk.release()
        with pytest.raises(asyncio.CancelledError):
            await heard
        assert [one.key for one in ended] == [key.public_key]
        await known([last], key)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_it_is_told_whatever_this_node_makes_of_it(tmp_path: Path) -> None:
    """Once it is in the journal it says nothing new, and would be told to nobody else."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        def unreadable(_: Rotation) -> None:
            raise KeyFileError("next.key cannot be read")

        rotations = Rotations(nodes[0].ledger, nodes[0].mesh, unreadable)
        Rotations(nodes[1].ledger, nodes[1].mesh)
        await connected(nodes)
        with pytest.raises(KeyFileError):
            await rotations.order(nodes[0].key, None)
        await known(nodes, nodes[0].key)

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def bring(source: Member, target: Member, network: bytes, count: int) -> None:
    peer = source.mesh.peers[target.key.public_key]
    for _ in range(count):
        key = SigningKey.generate()
        order = signed(rotation(network, key, None, (0, 0), 0), key)
        peer.send(RotationSeen(SignedBody(order.body, order.signature)))


def test_rotations_of_keys_nobody_knows_are_bounded(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        for node in nodes:
            Rotations(node.ledger, node.mesh)
        await connected(nodes)
        bring(nodes[0], nodes[1], grants.network.id, 2 * MOST_OF_PEER)
        await asyncio.sleep(15)
        assert len(nodes[1].ledger.state.succession) == MOST_OF_PEER

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_so_are_those_of_all_peers_together(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        target, *crowd = nodes
        Rotations(target.ledger, target.mesh)
        for source in crowd:
            target.mesh.keep(source.mesh.address())
        await until(lambda: len(target.mesh.peers) == len(crowd), 60)
        at_once = int(OF_STRANGERS[1])
        assert len(crowd) * MOST_OF_PEER > at_once
        for source in crowd:
            bring(source, target, grants.network.id, MOST_OF_PEER)
        await asyncio.sleep(15)
        assert len(target.ledger.state.succession) == at_once

    meshed(tmp_path, 6, Link(delay_s=0.02), play)
