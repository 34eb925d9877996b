"""Books become equal, whoever else asks, is slow, or has what no book takes."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.net.mesh import Grants, Member, converged
from tests.net.refused import message
from tests.net.test_gossip import meshed
from tests.net.test_kills import connected
from tests.net.test_watch import gift
from tests.waiting import until
from tirami.core.errors import ConnectionLost
from tirami.core.keys import SigningKey
from tirami.ledger import Admitted
from tirami.net import FrameReader, FrameWriter, Stream, intake, reconciler
from tirami.net.peer import Peer
from tirami.net.reconciler import FAIR_S, OF_PEER, PAUSE_S, RECONCILING
from tirami.net.reconciliation import EFFORT
from tirami.proto import Envelope, NetworkFile, Reconcile
from tirami.proto.reconciliation import Fingerprint
from tirami.testing import Link, MemoryNetwork, VirtualClock

EVERYTHING = message(Fingerprint(b"", b"", b"\xee" * 16))
BOUNDS = [b"", *(bytes([first]) for first in range(1, 256)), b""]
MADE_UP = message(*(Fingerprint(lower, upper, b"\xee" * 16) for lower, upper in pairwise(BOUNDS)))


async def asked(node: Member, of: Member, first: bytes) -> Stream:
    stream = await node.mesh.peers[of.key.public_key].connection.open()
    await FrameWriter(stream).write(Reconcile(first))
    return stream


async def steps(stream: Stream, said: bytes, most: int, pause_s: float = 0) -> int:
    """How often this is answered."""
    reader, writer, answered = FrameReader(stream, RECONCILING), FrameWriter(stream), 0
    try:
        while answered < most:
            await reader.read()
            answered += 1
            await asyncio.sleep(pause_s)
            await writer.write(Reconcile(said))
    except ConnectionLost:
        pass
    return answered


def test_whoever_asks_again_at_once_waits_and_who_goes_on_is_paced(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        node, hostile = nodes
        for _ in range(2_000):
            node.ledger.book_record(grants.next())
        await connected(nodes)
        await converged(nodes, 2_000, VirtualClock(), 30)
        await asyncio.sleep(2 * PAUSE_S)
        assert await steps(await asked(hostile, node, EVERYTHING), EVERYTHING, 2) == 2
        stream = await asked(hostile, node, EVERYTHING)
        assert await steps(stream, EVERYTHING, 1) == 0, "one at a time"
        await asyncio.sleep(70)
        began = VirtualClock().monotonic()
        made = await steps(await asked(hostile, node, MADE_UP), MADE_UP, 500)
        took = VirtualClock().monotonic() - began
        rate, burst = OF_PEER
        assert 256 * made <= burst + rate * took + EFFORT
        assert await steps(await asked(hostile, node, EVERYTHING), EVERYTHING, 1) == 0, "not at once again"

    meshed(tmp_path, 2, Link(delay_s=0.001), play)


def test_who_asks_for_long_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "ANSWERED", 1)

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        hostile, node, late = nodes
        for _ in range(50):
            node.ledger.book_record(grants.next())
        await connected([hostile, node, late])
        await converged(nodes, 50, VirtualClock(), 10)
        await asyncio.sleep(2 * PAUSE_S)
        holding = asyncio.create_task(steps(await asked(hostile, node, EVERYTHING), EVERYTHING, 1_000, 0.5))
        await asyncio.sleep(1)
        assert await steps(await asked(late, node, EVERYTHING), EVERYTHING, 1) == 0
        await asyncio.sleep(FAIR_S)
        assert await steps(await asked(late, node, EVERYTHING), EVERYTHING, 1) == 1
        assert await holding < 30

    meshed(tmp_path, 3, Link(delay_s=0.01), play)


def test_slow_peers_keep_nobody_waiting(tmp_path: Path) -> None:
    async def silent(peer: Peer, stream: Stream) -> None:
        await asyncio.sleep(3_600)

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        node, honest, *slow = nodes
        for _ in range(50):
            honest.ledger.book_record(grants.next())
        for one in slow:
            one.mesh.on_stream(silent)
            node.mesh.keep(one.mesh.address())
        await until(lambda: len(node.mesh.peers) == len(slow))
        node.mesh.keep(honest.mesh.address())
        assert await converged([node, honest], 50, VirtualClock(), 30) < 5

    meshed(tmp_path, 6, Link(delay_s=0.02), play)


def test_what_has_no_place_is_not_checked_again_until_its_payer_has_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0

    def counted(envelope: Envelope, network: NetworkFile) -> Admitted:
        nonlocal checked
        checked += 1
        return admit(envelope, network)

    admit = intake.admit
    monkeypatch.setattr(intake, "admit", counted)

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        payer, donors = SigningKey.generate(), [SigningKey.generate() for _ in range(2)]
        for number in range(1, 201):
            nodes[0].ledger.book_record(gift(grants.network.id, payer, number, settled=10 * (number - 1)))
        await nodes[0].ledger.durable()
        await connected(nodes)
        before = memory.traffic.bytes
        await asyncio.sleep(300)
        assert nodes[1].records == 64
        assert checked == 200, "each once"
        sent = memory.traffic.bytes - before
        print(f"300 s with 136 records that have no place: {sent} bytes")
        assert sent < 2_000_000
        for donor in donors:
            await nodes[1].ledger.book_record(grants.next(donor))[1]
            await nodes[1].ledger.book_record(grants.bought(donor, payer, 1_000, 1_000))[1]
        await converged(nodes, 204, VirtualClock(), 200)

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_trades_of_one_session_are_stored_up_to_a_bound(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        payer, provider = SigningKey.generate(), SigningKey.generate()
        nodes[0].ledger.book_record(grants.next(payer))
        for tokens in range(1, 151):
            nodes[0].ledger.book_record(grants.bought(payer, provider, tokens, ceiling=150))
        await nodes[0].ledger.durable()
        await connected(nodes)
        await asyncio.sleep(20)
        assert nodes[1].records <= 1 + 1 + 64
        assert nodes[1].ledger.state.trades_of(payer.public_key) > 1

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
