"""A log that does not grow from what it was is found out by whoever kept an older head."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.net.mesh import Grants, Member, converged, in_a_line
from tests.net.test_gossip import meshed
from tirami.core.errors import InvalidProof
from tirami.ledger import MerkleLog, SignedHead
from tirami.net import Stream
from tirami.net.peer import Peer
from tirami.proto import Head, decode, encode, sign
from tirami.testing import Link, MemoryNetwork, VirtualClock


async def until(condition: Callable[[], object], timeout: float) -> None:
    """As tests.waiting's, in steps that suit virtual minutes."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.25)


def size(of: Member, at: Member) -> int:
    """Leaves of the head that ``at`` has checked of the other's log."""
    known = at.logs._checked.get(of.key.public_key)
    return decode(Head, known.body).size if known else 0


def rewritten(node: Member, leaves: int) -> MerkleLog:
    """The node signs a head of another history under the same log id, and answers questions from it."""
    log, heads = MerkleLog(), node.logs._own
    for number in range(leaves):
        log.append(b"another %d" % number)
    assert heads._published is not None
    named = node.ledger.network.hash
    head = msgspec.structs.replace(heads._published.head, network_hash=named, size=leaves, root=log.root())
    signed = heads._published = SignedHead(head, encode(head), sign(head, node.key))

    async def current() -> SignedHead:
        return signed

    heads.current = current  # type: ignore[method-assign]
    return log


def test_a_log_that_grows_is_asked_about_and_believed(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        for round_ in range(3):
            for _ in range(5):
                await nodes[0].ledger.book_record(grants.next())[1]
            await converged(nodes, 5 * (round_ + 1), VirtualClock(), 60)
            await until(lambda: size(nodes[0], nodes[1]) == nodes[0].records, 60)
            await until(lambda: size(nodes[1], nodes[0]) == nodes[1].records, 60)
        assert not any(node.alarms or node.ledger.state.settings.convicted for node in nodes)

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


@pytest.mark.parametrize("answers", [True, False], ids=["it shows the path", "it makes one up"])
def test_a_rewritten_log_is_dropped_and_convicted_where_it_shows_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        liar, *others = nodes
        in_a_line(nodes)
        for _ in range(5):
            await liar.ledger.book_record(grants.next())[1]
        await until(lambda: size(liar, others[0]) == 5, 60)
        other = rewritten(liar, 7)
        made_up = [bytes(32)] * 5
        answer = other.consistency if answers else lambda *_: made_up
        monkeypatch.setattr(liar.logs._own, "consistency", answer)
        await until(lambda: liar.key.public_key in others[0].alarms, 60)
        if answers:
            await until(lambda: all(liar.key.public_key in one.ledger.state.settings.convicted for one in others), 60)
        else:
            await asyncio.sleep(5)
            assert not any(one.ledger.state.settings.convicted for one in others)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_no_connection_to_a_rewritten_log_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one either that another has replaced and a stream that says nothing keeps open."""

    async def patient(peer: Peer, stream: Stream) -> None:
        await asyncio.sleep(3_600)

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        liar, other = nodes
        other.mesh.on_stream(patient)
        in_a_line(nodes)
        for _ in range(5):
            await liar.ledger.book_record(grants.next())[1]
        await until(lambda: size(liar, other) == 5, 60)
        await other.mesh._introduce(await other.mesh._endpoint.connect(liar.mesh.address(), 5))
        await until(lambda: liar.mesh._retiring and other.mesh._retiring, 1)
        for peer in (*liar.mesh.peers.values(), *liar.mesh._retiring.values()):
            await (await peer.places.open()).write(b"a")
        await asyncio.sleep(30)
        assert other.mesh.peers and other.mesh._retiring, "it is waited for"
        rewritten(liar, 7)
        made_up = [bytes(32)] * 5
        monkeypatch.setattr(liar.logs._own, "consistency", lambda *_: made_up)
        await until(lambda: other.alarms, 60)
        await asyncio.sleep(1)
        assert not other.mesh.peers and not other.mesh._retiring and not other.mesh._origins._all

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


@pytest.mark.parametrize("alike", [True, False], ids=["one file", "two files of one id"])
def test_two_heads_of_one_size_convict_without_a_question(tmp_path: Path, alike: bool) -> None:
    """Under whichever network files: what a log is does not depend on them, and a proof stands for itself (B8)."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        liar, *others = nodes
        in_a_line(nodes)
        await liar.ledger.book_record(grants.next())[1]
        await until(lambda: size(liar, others[0]) == 1, 60)
        if not alike:
            assert liar.logs._own.published is not None
            liar.ledger.network = msgspec.structs.replace(liar.ledger.network, seeds=("nowhere",))
            assert liar.logs._own.published is None
        rewritten(liar, 1)
        await until(lambda: all(liar.key.public_key in one.ledger.state.settings.convicted for one in others), 60)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_silence_convicts_nobody_and_a_flood_of_questions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        silent, other = nodes
        in_a_line(nodes)
        asked = 0

        def refuses(*_: int) -> list[bytes]:
            nonlocal asked
            asked += 1
            raise InvalidProof("no", param="second")

        monkeypatch.setattr(silent.logs._own, "consistency", refuses)
        for _ in range(30):
            await silent.ledger.book_record(grants.next())[1]
            await asyncio.sleep(1.5)
        assert not other.alarms
        assert not other.ledger.state.settings.convicted
        assert 2 <= asked <= 7, "once in ten seconds"

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_a_peer_lost_between_two_questions_ends_nothing(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        await nodes[0].logs._check(nodes[1].key.public_key)

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
