"""A double spender is proven guilty wherever its two promises meet, and by everybody soon after."""

import asyncio
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.net.mesh import Grants, Member, in_a_line
from tests.net.test_gossip import meshed
from tests.waiting import until
from tirami.core.keys import SigningKey
from tirami.ledger import Evidence
from tirami.net import watch
from tirami.proto import Envelope, FraudFound, Transfer, cited_in, encode, sign
from tirami.testing import Link, MemoryNetwork, VirtualClock


def gift(network: str, cheat: SigningKey, number: int, settled: int = 0) -> Envelope:
    """Of 10 TRM, under a number of the cheat's choice."""
    body = Transfer(
        network=network,
        scope=0,
        payer=cheat.public_key,
        to=SigningKey.generate().public_key,
        incarnation=0,
        number=number,
        settled=settled,
        open=(),
        amount=10,
        at_ms=VirtualClock().now_ms(),
    )
    return Envelope("transfer", encode(body), (sign(body, cheat),), ())


@pytest.mark.row("L1-05")
@pytest.mark.parametrize("numbers", [(5, 5), (5, 6)], ids=["one number twice", "totals that leave one out"])
def test_two_promises_that_contradict_each_other_convict(tmp_path: Path, numbers: tuple[int, int]) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        clock, cheat = VirtualClock(), SigningKey.generate()
        await until(lambda: all(node.mesh.peers for node in nodes), 30)
        for node, number in zip((nodes[0], nodes[-1]), numbers, strict=True):
            await node.ledger.book_record(gift(grants.network.id, cheat, number))[1]
        began = clock.monotonic()
        await until(lambda: all(cheat.public_key in node.ledger.state.settings.convicted for node in nodes), 60)
        took = clock.monotonic() - began
        print(f"convicted by all of {len(nodes)} in a line, memory: {took:.2f} s")
        assert took <= 10
        for node in nodes:
            assert node.ledger.gate.means(cheat.public_key).disabled

    meshed(tmp_path, 4, Link(delay_s=0.02), play)


def test_a_proof_that_says_nothing_new_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        cheat = SigningKey.generate()
        await until(lambda: all(node.mesh.peers for node in nodes), 30)
        for node in nodes:
            await node.ledger.book_record(gift(grants.network.id, cheat, 5))[1]
        await until(lambda: all(cheat.public_key in node.ledger.state.settings.convicted for node in nodes), 60)
        proof = nodes[0].watch._known[cheat.public_key].proof
        checked: list[bytes] = []
        monkeypatch.setattr(watch, "verify_fraud", checked.append)
        for _ in range(10):
            nodes[0].mesh.peers[nodes[1].key.public_key].send(FraudFound(proof))
        await asyncio.sleep(5)
        assert not checked
        assert nodes[0].mesh.peers

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def proven(network: str, cheat: SigningKey) -> FraudFound:
    evidence = Evidence(network)
    found = [evidence.see(piece) for _ in range(2) for piece in cited_in(gift(network, cheat, 5))]
    return FraudFound(next(filter(None, found)))


def test_whoever_told_may_leave_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        cheat, (first, middle, last) = SigningKey.generate(), nodes
        await until(lambda: len(middle.mesh.peers) == 2, 30)
        disk, peer = Disk(middle.ledger, monkeypatch), middle.mesh.peers[first.key.public_key]
        disk.hold()
        told = asyncio.create_task(middle.watch._told(peer, proven(grants.network.id, cheat)))
        await disk.writing.wait()
        told.cancel()
        disk.release()
        with pytest.raises(asyncio.CancelledError):
            await told
        await until(lambda: cheat.public_key in last.ledger.state.settings.convicted, 5)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_what_the_disk_refused_is_written_down_and_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        cheat, (first, middle, last) = SigningKey.generate(), nodes
        await until(lambda: len(middle.mesh.peers) == 2, 30)
        disk, peer = Disk(middle.ledger, monkeypatch), middle.mesh.peers[first.key.public_key]
        disk.full = True
        await middle.watch._told(peer, proven(grants.network.id, cheat))
        await asyncio.sleep(3)
        assert not any(cheat.public_key in node.ledger.state.settings.convicted for node in nodes)
        disk.full = False
        await until(lambda: all(cheat.public_key in one.ledger.state.settings.convicted for one in (middle, last)), 5)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_proofs_that_a_full_disk_refuses_wait_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        first, middle, _ = nodes
        await until(lambda: len(middle.mesh.peers) == 2, 30)
        disk, peer = Disk(middle.ledger, monkeypatch), middle.mesh.peers[first.key.public_key]
        proofs = [proven(grants.network.id, SigningKey.generate()) for _ in range(9)]
        monkeypatch.setattr(watch, "FOUND_BYTES", 3 * len(proofs[0].proof) + 2)
        disk.full = True
        for proof in proofs:
            await middle.watch._told(peer, proof)
        assert middle.watch._found.qsize() in (2, 3), "one may be in hand"
        disk.full = False
        await until(lambda: len(middle.ledger.state.settings.convicted) >= 3 and middle.watch._found.empty(), 30)
        assert middle.watch._waiting == 0

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_an_honest_key_is_convicted_by_nobody(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        honest = SigningKey.generate()
        await until(lambda: all(node.mesh.peers for node in nodes), 30)
        for index, node in enumerate(nodes):
            await node.ledger.book_record(gift(grants.network.id, honest, index + 1, settled=10 * index))[1]
        await until(lambda: all(node.records == len(nodes) for node in nodes), 60)
        assert not any(node.ledger.state.settings.convicted for node in nodes)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)
