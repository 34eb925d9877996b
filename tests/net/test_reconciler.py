"""Books become equal, whoever else asks, is slow, or has what no book takes."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.net.mesh import Grants, Member, converged
from tests.net.refused import message
from tests.net.test_gossip import meshed
from tests.net.test_kills import connected
from tests.net.test_watch import gift
from tests.waiting import until
from tirami.core.errors import ConnectionLost, StorageUnavailable
from tirami.core.keys import SigningKey
from tirami.ledger import Admitted
from tirami.net import FrameReader, FrameWriter, Stream, intake, reconciler
from tirami.net.peer import Peer
from tirami.net.reconciler import FAIR_S, OF_PEER, PAUSE_S, RECONCILING, STEP_S, WORKERS
from tirami.net.reconciliation import EFFORT
from tirami.proto import Envelope, HeadSeen, NetworkFile, Reconcile
from tirami.proto.reconciliation import Fingerprint, Listing
from tirami.testing import Link, MemoryNetwork, VirtualClock
from tirami.testing.streams import WINDOW

NOTHING = message(Listing(b"", b"", ()))
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


async def traded(node: Member, grants: Grants, trades: int) -> None:
    """Twice as many records, durable here."""
    for _ in range(trades):
        payer = SigningKey.generate()
        node.ledger.book_record(grants.next(payer))
        node.ledger.book_record(grants.bought(payer, node.key))
    await node.ledger.durable()


def size(node: Member) -> int:
    stored = (record.envelope for record in node.ledger.state.records)
    return sum(len(one.body) + sum(map(len, one.attachments)) for one in stored)


def reconciling() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "reconciling"]


def test_both_may_lack_more_than_a_stream_holds(tmp_path: Path) -> None:
    """Were both to send before they read, each would wait for the other until time is up."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        for node in nodes:
            await traded(node, grants, 600)
            assert size(node) > WINDOW
        await connected(nodes)
        assert await converged(nodes, 2_400, VirtualClock(), 300) < 20
        await until(lambda: not reconciling())

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


@pytest.mark.parametrize("asking", [0, 1])
def test_what_one_side_lacks_comes_at_once(tmp_path: Path, asking: int) -> None:
    """Whoever asked does not end the stream before the other has read what is on it."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        await traded(nodes[0], grants, 400)
        nodes[asking].mesh.keep(nodes[1 - asking].mesh.address())
        assert await converged(nodes, 800, VirtualClock(), 300) < 2

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_who_wants_everything_and_reads_nothing_is_left(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        node, hostile = nodes
        await traded(node, grants, 400)
        await connected(nodes)
        await converged(nodes, 800, VirtualClock(), 30)
        await asyncio.sleep(2 * PAUSE_S)
        stream = await asked(hostile, node, NOTHING)
        await asyncio.sleep(1)
        assert len(reconciling()) == 2
        await asyncio.sleep(STEP_S)
        assert not reconciling()
        with pytest.raises(ConnectionLost):
            await stream.read(WINDOW)

    meshed(tmp_path, 2, Link(delay_s=0.001), play)


async def test_what_goes_wrong_while_sending_ends_the_reading_and_is_told() -> None:
    async def fails() -> None:
        raise StorageUnavailable("no disk")

    async def waits() -> None:
        await asyncio.sleep(3_600)

    with pytest.raises(StorageUnavailable):
        await reconciler._both(fails(), waits())
    assert not reconciling()


def test_a_surprise_of_one_peer_is_not_the_end_of_comparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        begin, surprises = reconciler._Exchange.begin, 4

        async def surprising(exchange: reconciler._Exchange) -> None:
            nonlocal surprises
            surprises -= 1
            if surprises >= 0:
                raise RuntimeError("nobody thought of this")
            await begin(exchange)

        monkeypatch.setattr(reconciler._Exchange, "begin", surprising)
        await traded(nodes[0], grants, 5)
        await connected(nodes)
        await converged(nodes, 10, VirtualClock(), 600)
        assert surprises < 0

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_an_answer_whose_time_is_up_anyway_makes_room_without_a_word(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        comparing = nodes[0].gossip.reconciler
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0) as deadline:
                try:
                    await asyncio.sleep(1)
                finally:
                    comparing._answering[nodes[1].key.public_key] = 0.0, deadline
                    comparing._make_room(2 * FAIR_S)
        assert not comparing._answering

    meshed(tmp_path, 2, Link(), play)


def _untrue(own: Callable[[], HeadSeen | None]) -> HeadSeen | None:
    """What it says of its book is never what others have."""
    told = own()
    return None if told is None else HeadSeen(told.head, told.records + 1, bytes(16))


@pytest.mark.parametrize("to_buy", [False, True], ids=["they called", "they were called for a purchase"])
def test_a_crowd_that_says_nothing_leaves_those_alone_that_this_node_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_buy: bool
) -> None:
    async def silent(peer: Peer, stream: Stream) -> None:
        await asyncio.sleep(3_600)

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        node, honest, *crowd = nodes
        await traded(node, grants, 1)
        for one in crowd:
            one.mesh.on_stream(silent)
            if to_buy:
                await node.mesh.connect(one.mesh.address(), to_buy=True)
            else:
                one.mesh.keep(node.mesh.address())
        await until(lambda: len(node.mesh.peers) == len(crowd), 60)
        for one in crowd:
            monkeypatch.setattr(one.gossip, "_own_head", partial(_untrue, one.gossip._own_head))
        await asyncio.sleep(STEP_S)
        await traded(honest, grants, 25)
        monkeypatch.setattr(honest.gossip.reconciler, "_want", lambda _: None)
        node.mesh.keep(honest.mesh.address())
        began = VirtualClock().monotonic()
        await until(lambda: node.records >= 52, 60)
        assert VirtualClock().monotonic() - began < 5

    meshed(tmp_path, 3 * WORKERS + 2, Link(delay_s=0.02), play)
