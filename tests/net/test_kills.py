"""One order freezes all nodes of an operator, and nobody else's, through everybody's."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.ledger.disk import Disk
from tests.net.mesh import Grants, Member, in_a_line
from tests.net.test_gossip import meshed
from tirami.core.clock import APART_MS
from tirami.core.errors import Conflict, KillSwitchActive, StorageUnavailable
from tirami.core.keys import PublicKey, SigningKey
from tirami.net.kills import ANSWERS, LATEST_MS, LIFETIME_MS, PER_MINUTE, UNSURE, Kills
from tirami.net.rotations import Rotations
from tirami.proto import KillAnswer, KillAnswered, KillOrder, KillOrdered, SignedBody, Successor, encode, sign
from tirami.testing import Link, MemoryNetwork, VirtualClock


def obeying(nodes: list[Member], operator: PublicKey, strangers: tuple[int, ...] = ()) -> list[Kills]:
    clock = VirtualClock()
    return [
        Kills(node.ledger, node.mesh, node.key, node.key.public_key if place in strangers else operator, clock)
        for place, node in enumerate(nodes)
    ]


def frozen(node: Member) -> bool:
    kill = node.ledger.gate.kill
    return kill is not None and kill.active


async def connected(nodes: list[Member]) -> None:
    in_a_line(nodes)
    async with asyncio.timeout(60):
        while any(len(node.mesh.peers) < (1 if node in (nodes[0], nodes[-1]) else 2) for node in nodes):
            await asyncio.sleep(0.05)


@pytest.mark.row("SAF-01", part="mesh-wide, in memory")
def test_eight_in_a_line_freeze_within_a_second(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        operator, clock = nodes[0].key.public_key, VirtualClock()
        kills = obeying(nodes, operator, strangers=(3,))
        await connected(nodes)
        began = clock.monotonic()
        await kills[0].order(True, "fire drill", "me")
        others = [node for place, node in enumerate(nodes) if place != 3]
        async with asyncio.timeout(10):
            while not all(frozen(node) for node in others):
                await asyncio.sleep(0.005)
        took = clock.monotonic() - began
        print(f"8 in a line, memory, 20 ms a link: frozen after {took * 1000:.0f} ms")
        assert took < 1
        assert not frozen(nodes[3]), "a stranger passes it on and goes on"
        kill = nodes[-1].ledger.state.settings.kill
        assert kill is not None
        assert kill.operator == f"mesh operator {operator.hex()}"
        assert kill.reason == "fire drill"
        with pytest.raises(KillSwitchActive):
            nodes[-1].ledger.gate.check_open()
        await kills[0].order(False, "over", "me")
        await asyncio.sleep(1)
        assert not any(frozen(node) for node in nodes)

    meshed(tmp_path, 8, Link(delay_s=0.02), play)


def order(node: Member, number: int, *, active: bool = True, **changed: object) -> KillOrdered:
    now = node.ledger.now()
    made = KillOrder(
        network=node.ledger.network.id,
        operator=node.key.public_key,
        number=number,
        active=active,
        reason="",
        expires_ms=now + LIFETIME_MS,
        at_ms=now,
    )
    made = msgspec.structs.replace(made, **changed)
    return KillOrdered(SignedBody(encode(made), sign(made, node.key)))


def test_nothing_old_expired_or_strange_is_carried_out(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, between, last = nodes
        obeying(nodes, boss.key.public_key)
        await connected(nodes)
        peer = boss.mesh.peers[between.key.public_key]

        async def told(message: KillOrdered) -> bool:
            peer.send(message)
            await asyncio.sleep(0.5)
            return frozen(last)

        killed, released = order(boss, 5), order(boss, 6, active=False)
        now = boss.ledger.now()
        assert not await told(order(boss, 4, expires_ms=now - APART_MS))
        assert not await told(order(boss, 4, expires_ms=now + LATEST_MS + 60_000))
        assert not await told(order(boss, now + LATEST_MS + 60_000))
        assert not await told(order(boss, 4, network="another"))
        assert not await told(order(boss, 2**64 - 1)), "no later order could follow it"
        assert not await told(order(between, 4))
        assert await told(killed)
        assert not await told(released)
        seq = last.ledger.seq
        assert not await told(killed), "an order is carried out once"
        assert not await told(order(boss, 6))
        assert last.ledger.seq == seq
        assert last.ledger.state.settings.kill_orders == {boss.key.public_key: 6}

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_what_was_carried_out_before_journals_named_the_key_is_not_carried_out_again(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, last = nodes
        obeying(nodes, boss.key.public_key)
        await connected(nodes)
        await last.ledger.set_kill(False, "over", "mesh operator", 6)
        await last.ledger.set_kill(True, "here only", "me")
        peer = boss.mesh.peers[last.key.public_key]
        peer.send(order(boss, 6, active=False))
        await asyncio.sleep(0.5)
        assert frozen(last), "the owner's later word stands"
        await last.ledger.set_kill(False, "over", "me")
        peer.send(order(boss, 7))
        await asyncio.sleep(0.5)
        assert frozen(last)
        await last.ledger.set_kill(True, "before numbers had a bound", "mesh operator", 2**64 - 1)
        peer.send(order(boss, 8, active=False))
        await asyncio.sleep(0.5)
        assert not frozen(last)

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_an_operators_key_that_ended_is_not_obeyed_any_more(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, last = nodes
        kills = obeying(nodes, boss.key.public_key)
        rotations = [Rotations(node.ledger, node.mesh) for node in nodes]
        await connected(nodes)
        await kills[0].order(True, "fire drill", "me")
        async with asyncio.timeout(10):
            while not frozen(last):
                await asyncio.sleep(0.05)
        await rotations[0].order(boss.key, None)
        async with asyncio.timeout(60):
            while not last.ledger.state.succession.ended(boss.key.public_key):
                await asyncio.sleep(0.05)
        boss.mesh.peers[last.key.public_key].send(order(boss, last.ledger.now() + 1, active=False))
        await asyncio.sleep(1)
        assert frozen(last), "a thief's release is not carried out"
        with pytest.raises(Conflict):
            await kills[0].order(False, "over", "thief")

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_the_key_that_follows_the_operators_is_obeyed(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, heir, last = nodes
        kills = obeying(nodes, boss.key.public_key)
        rotations = [Rotations(node.ledger, node.mesh) for node in nodes]
        await connected(nodes)
        agreed = Successor.agreeing(boss.ledger.network.id, boss.key.public_key, heir.key)
        await rotations[0].order(boss.key, agreed)
        async with asyncio.timeout(60):
            while not all(node.ledger.state.succession.ended(boss.key.public_key) for node in nodes):
                await asyncio.sleep(0.05)
        with pytest.raises(Conflict, match=heir.key.public_key.hex()):
            await kills[0].order(True, "too late", "me")
        await kills[1].order(True, "fire drill", "me")
        async with asyncio.timeout(10):
            while not frozen(last):
                await asyncio.sleep(0.05)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_whoever_stole_the_operators_key_spends_no_numbers_of_the_key_that_follows(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, heir, last = nodes
        kills = obeying(nodes, boss.key.public_key)
        rotations = [Rotations(node.ledger, node.mesh) for node in nodes]
        await connected(nodes)
        boss.mesh.peers[heir.key.public_key].send(order(boss, 2**64 - 1, active=False))
        await asyncio.sleep(1)
        await kills[0].order(True, "the owner still can", "me")
        async with asyncio.timeout(10):
            while not frozen(last):
                await asyncio.sleep(0.05)
        thief = order(boss, boss.ledger.now() + LATEST_MS, active=False)
        boss.mesh.peers[heir.key.public_key].send(thief)
        await asyncio.sleep(0.5)
        assert not frozen(last), "the thief has the key as well"
        agreed = Successor.agreeing(boss.ledger.network.id, boss.key.public_key, heir.key)
        await rotations[0].order(boss.key, agreed)
        async with asyncio.timeout(60):
            while not all(node.ledger.state.succession.ended(boss.key.public_key) for node in nodes):
                await asyncio.sleep(0.05)
        await kills[1].order(True, "fire drill", "me")
        assert kills[1]._newest[heir.key.public_key].number <= heir.ledger.now()
        async with asyncio.timeout(10):
            while not frozen(last):
                await asyncio.sleep(0.05)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_a_forged_order_ends_the_connection_and_a_flood_is_not_passed_on(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        flooder, between, last = nodes
        kills = obeying(nodes, last.key.public_key)
        await connected(nodes)
        peer = flooder.mesh.peers[between.key.public_key]
        for number in range(1, 5 * PER_MINUTE):
            peer.send(order(flooder, number))
        await asyncio.sleep(2)
        assert 0 < kills[2]._newest[flooder.key.public_key].number <= PER_MINUTE
        assert not frozen(last)
        forged = order(flooder, 1, operator=last.key.public_key)
        peer.send(forged)
        await peer.connection.closed()
        assert not frozen(between)
        assert not frozen(last)

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_coming_again_gives_no_new_orders(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        flooder, other = nodes
        kills = obeying(nodes, other.key.public_key)
        await connected(nodes)
        for round_ in range(3):
            peer = flooder.mesh.peers[other.key.public_key]
            for number in range(1, PER_MINUTE + 1):
                peer.send(order(flooder, round_ * PER_MINUTE + number))
            await asyncio.sleep(1)
            peer.close("again")
            await peer.gone.wait()
            await connected(nodes)
        assert kills[1]._newest[flooder.key.public_key].number == PER_MINUTE

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_only_the_operators_own_node_gives_orders(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        kills = obeying(nodes, nodes[0].key.public_key)
        with pytest.raises(Conflict):
            await kills[1].order(True, "", "")
        await kills[0].order(True, "", "")
        await connected(nodes)
        await asyncio.sleep(1)
        assert frozen(nodes[1]), "who comes late is told"

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def by_clock(node: Member, ahead_ms: int, *, active: bool = True, later: int = 0) -> KillOrdered:
    """An order as its operator gives it whose clock is ahead of everybody's."""
    then = node.ledger.now() + ahead_ms + later
    return order(node, then, active=active, expires_ms=then + LIFETIME_MS, at_ms=then)


@pytest.mark.row("SAF-01", part="whatever the clocks say")
@pytest.mark.parametrize("ahead_ms", [700_000, -700_000, APART_MS - 60_000, 60_000 - APART_MS])
def test_clocks_that_differ_freeze_and_release_all_the_same(tmp_path: Path, ahead_ms: int) -> None:
    """And what was released is not frozen again by the same order, nor the other way round."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, between, last = nodes
        obeying(nodes, boss.key.public_key)
        await connected(nodes)
        peer = boss.mesh.peers[between.key.public_key]

        async def told(message: KillOrdered) -> bool:
            peer.send(message)
            await asyncio.sleep(0.5)
            return frozen(last)

        killed, released = by_clock(boss, ahead_ms), by_clock(boss, ahead_ms, active=False, later=1)
        assert await told(killed)
        assert not await told(released)
        assert not await told(killed), "numbers rise"
        assert await told(by_clock(boss, ahead_ms, later=2_000))
        assert await told(released), "an old release is none any more"

    meshed(tmp_path, 3, Link(delay_s=0.02), play)


def test_a_release_leaves_the_switch_that_was_thrown_here_unless_it_is_surely_later(tmp_path: Path) -> None:
    """Whoever kept it from this node until now cannot undo with it what its owner did since."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, last = nodes
        kills = obeying(nodes, boss.key.public_key)
        await connected(nodes)
        peer, now = boss.mesh.peers[last.key.public_key], last.ledger.now()

        async def told(message: KillOrdered) -> bool:
            peer.send(message)
            await asyncio.sleep(0.5)
            return frozen(last)

        kept = order(boss, 7, active=False, at_ms=now - 540_000, expires_ms=now + 60_000)
        await last.ledger.set_kill(True, "thief", "operator at this node")
        with capture_logs() as logs:
            for _ in range(3):
                assert await told(kept)
        (dropped,) = [line for line in logs if line["event"] == "kill_order_dropped"]
        assert (dropped["log_level"], dropped["reason"]) == ("warning", UNSURE)
        assert await told(order(boss, 8)), "an order to freeze, kept back too, opens no way round"
        assert await told(order(boss, 9, active=False))
        thrown_ms = last.ledger.gate.thrown_here_ms
        assert thrown_ms is not None
        given = await kills[0].order(False, "over", "me")
        await asyncio.sleep(1)
        (answer,) = given.answers.values()
        assert (answer.obeyed, answer.reason, frozen(last)) == (False, UNSURE, True)
        number = last.ledger.now() + LIFETIME_MS
        assert await told(order(boss, number, active=False, at_ms=thrown_ms + APART_MS))
        assert not await told(order(boss, number + 1, active=False, at_ms=thrown_ms + APART_MS + 1))
        assert await told(order(boss, number + 2))
        assert not await told(order(boss, number + 3, active=False, at_ms=now - 1)), "its number is the higher"

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_a_release_leaves_the_switch_that_was_thrown_here_while_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, last = nodes
        obeying(nodes, boss.key.public_key)
        await connected(nodes)
        peer, disk = boss.mesh.peers[last.key.public_key], Disk(last.ledger, monkeypatch)
        disk.full = True
        with pytest.raises(StorageUnavailable):
            await last.ledger.set_kill(True, "thief", "operator at this node")
        disk.full = False
        for number, active in enumerate((False, True, False), 7):
            peer.send(order(boss, number, active=active))
            await asyncio.sleep(0.5)
            assert frozen(last)
        await last.ledger.set_kill(False, "over", "operator at this node")
        assert not frozen(last)
        peer.send(order(boss, 10))
        await asyncio.sleep(0.5)
        assert frozen(last)
        peer.send(order(boss, 11, active=False))
        await asyncio.sleep(0.5)
        assert not frozen(last), "what was thrown here was released here"

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_the_operator_is_told_who_obeyed_through_strangers_and_who_did_not(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, _, _, near, far = nodes
        kills = obeying(nodes, boss.key.public_key, strangers=(1, 2))
        await connected(nodes)
        given = await kills[0].order(True, "fire drill", "me")
        await asyncio.sleep(1)
        assert given.told == 1
        assert {key: answer.obeyed for key, answer in given.answers.items()} == {
            near.key.public_key: True,
            far.key.public_key: True,
        }
        far.ledger.state.settings.kill_orders[boss.key.public_key] = 0
        with capture_logs() as logs:
            peer = near.mesh.peers[far.key.public_key]
            peer.send(order(boss, far.ledger.now() + LATEST_MS + 60_000))
            await asyncio.sleep(1)
        assert [line["reason"] for line in logs if line["event"] == "kill_order_dropped"] == [
            "it is of the future: clocks differ by more than an hour"
        ]

    meshed(tmp_path, 5, Link(delay_s=0.02), play)


def test_a_node_that_refuses_says_so_to_who_brought_the_order(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, last = nodes
        kills = obeying(nodes, boss.key.public_key)
        await connected(nodes)
        boss.ledger._latest = boss.ledger.now() + 2 * LATEST_MS  # its clock
        given = await kills[0].order(True, "fire drill", "me")
        await asyncio.sleep(1)
        (answer,) = given.answers.values()
        assert (answer.node, answer.obeyed, frozen(last)) == (last.key.public_key, False, False)
        assert "clocks differ" in answer.reason

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def answered(boss: Member, number: int, signer: SigningKey, node: PublicKey | None = None) -> KillAnswered:
    made = KillAnswer(boss.ledger.network.id, boss.key.public_key, number, node or signer.public_key, True, "", 0)
    return KillAnswered(SignedBody(encode(made), sign(made, signer)))


def test_answers_that_nobody_signed_or_asked_for_are_none_and_there_is_a_bound(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        boss, liar = nodes
        kills = obeying(nodes, boss.key.public_key, strangers=(1,))
        await connected(nodes)
        given = await kills[0].order(True, "fire drill", "me")
        peer, number = liar.mesh.peers[boss.key.public_key], kills[0]._newest[boss.key.public_key].number

        peer.send(answered(boss, number - 1, liar.key))
        await asyncio.sleep(0.5)
        assert not given.answers
        for _ in range(ANSWERS + 20):
            peer.send(answered(boss, number, SigningKey.generate()))
        await asyncio.sleep(5)
        assert len(given.answers) == ANSWERS
        await kills[0].order(False, "over", "me")
        number = kills[0]._newest[boss.key.public_key].number
        peer.send(answered(boss, number, SigningKey.generate(), liar.key.public_key))
        await peer.connection.closed()

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_who_invents_nodes_that_answer_keeps_none_from_being_heard(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        liar, boss, honest = nodes
        kills = obeying(nodes, boss.key.public_key, strangers=(0, 2))
        await connected(nodes)
        given = await kills[1].order(True, "fire drill", "me")
        number = kills[1]._newest[boss.key.public_key].number
        for _ in range(ANSWERS + 20):
            liar.mesh.peers[boss.key.public_key].send(answered(boss, number, SigningKey.generate()))
        await asyncio.sleep(5)
        assert len(given.answers) == ANSWERS
        for signer in (honest.key, SigningKey.generate()):
            honest.mesh.peers[boss.key.public_key].send(answered(boss, number, signer))
            await asyncio.sleep(1)
            assert signer.public_key in given.answers and len(given.answers) == ANSWERS
        liar.mesh.peers[boss.key.public_key].send(answered(boss, number, liar.key))
        await asyncio.sleep(1)
        assert liar.key.public_key not in given.answers

    meshed(tmp_path, 3, Link(delay_s=0.02), play)
