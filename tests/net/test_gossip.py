"""Records everywhere: lines, losses, partitions, latecomers, all in memory under the virtual clock."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tests.net.mesh import Grants, Member, Spread, converged, in_a_line, member, members
from tests.waiting import until
from tirami.core.keys import SigningKey
from tirami.net import Endpoint
from tirami.net.mesh import FAN_OUT
from tirami.net.peer import Peer
from tirami.proto import HeadSeen, Message, Records
from tirami.testing import Link, MemoryNetwork, VirtualClock, run_virtually

MEDIUM = "in memory, virtual time"


def meshed(
    home: Path, count: int, link: Link, play: Callable[[list[Member], Grants, MemoryNetwork], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        grants, memory = Grants(clock), MemoryNetwork(seed=1, link=link)

        async def bind(key: SigningKey) -> Endpoint:
            return memory.endpoint(key.public_key)

        async with members(home, count, bind, grants.network, clock) as nodes:
            await play(nodes, grants, memory)

    run_virtually(main())


@pytest.mark.row("L1-04")
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_eight_in_a_line_agree(tmp_path: Path, loss: float) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        spread = Spread(memory.traffic, MEDIUM, VirtualClock())
        for number in range(40):
            await grants.trade(nodes[number % 8])
        await converged(nodes, 80, VirtualClock(), 30)
        assert spread.told(f"8 in a line, loss {loss:.0%}", 8, 80) < 5

    meshed(tmp_path, 8, Link(delay_s=0.02, jitter_s=0.01, loss=loss), play)


@pytest.mark.row("L1-04")
@pytest.mark.parametrize("apart_s", [1, 600])
def test_a_partition_heals(tmp_path: Path, apart_s: int) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        left, right = nodes[:5], nodes[5:]
        await nodes[0].ledger.book_record(grants.next())[1]
        await converged(nodes, 1, VirtualClock(), 30)
        memory.partition([[node.key.public_key for node in left]])
        for side in (left, right):
            for _ in range(10):
                await grants.trade(side[0])
        await converged(left, 21, VirtualClock(), 30)
        await converged(right, 21, VirtualClock(), 30)
        assert left[0].state_hash != right[0].state_hash
        await asyncio.sleep(apart_s)
        memory.heal()
        spread = Spread(memory.traffic, MEDIUM, VirtualClock())
        await converged(nodes, 41, VirtualClock(), 120)
        assert spread.told(f"a 5/5 partition of {apart_s} s healed", 10, 20) <= 60

    meshed(tmp_path, 10, Link(delay_s=0.02), play)


@pytest.mark.row("L1-04")
@pytest.mark.parametrize("alike", [True, False], ids=["one file", "two files of one id"])
def test_books_are_compared_only_under_one_network_file(tmp_path: Path, alike: bool) -> None:
    """The same head of the same book, whose set of records it misstates: it is looked into, or it says nothing (B5)."""

    async def main() -> None:
        clock, memory = VirtualClock(), MemoryNetwork(seed=1, link=Link(delay_s=0.02))
        grants, keys = Grants(clock), [SigningKey.generate() for _ in range(2)]
        other = grants.network if alike else msgspec.structs.replace(grants.network, seeds=("nowhere",))
        assert (other.id, other.hash == grants.network.hash) == (grants.network.id, alike)
        async with AsyncExitStack() as stack:
            teller, listener = [
                await stack.enter_async_context(
                    member(tmp_path / str(number), memory.endpoint(key.public_key), key, network, clock, number)
                )
                for number, (key, network) in enumerate(zip(keys, (grants.network, other), strict=True))
            ]
            in_a_line((teller, listener))
            for number in range(1, 6):
                await teller.ledger.book_record(grants.next())[1]
                await converged((teller, listener), number, clock, 30)  # records go from one to the other all the same
            asked, head = list[float](), teller.gossip._own_head
            ask = listener.gossip.reconciler._ask

            async def counted(peer: Peer) -> None:
                asked.append(clock.monotonic())
                await ask(peer)

            listener.gossip.reconciler._ask = counted  # type: ignore[method-assign]

            def misstated() -> HeadSeen | None:
                told = head()
                return told and msgspec.structs.replace(told, records=10**6, fingerprint=bytes(16))

            teller.gossip._own_head = misstated  # type: ignore[method-assign]
            await asyncio.sleep(180)
            assert teller.key.public_key in listener.mesh.peers
            assert bool(asked) == alike, asked
            for node in (teller, listener):
                assert not node.alarms and not node.ledger.state.settings.convicted, "no book is a fraud proof"
                assert not node.watch._evidence.proofs

    run_virtually(main())


@pytest.mark.parametrize("told", [True, False], ids=["another file", "another file, said to be the same"])
def test_a_grant_of_an_issuer_that_only_one_file_names_parts_nobody_who_says_so(tmp_path: Path, told: bool) -> None:
    """An issuer is added on one node first: until the other has the new file, too, they go on with what both admit."""

    async def main() -> None:
        clock, memory = VirtualClock(), MemoryNetwork(seed=1, link=Link(delay_s=0.02))
        old, new, keys = Grants(clock), Grants(clock), [SigningKey.generate() for _ in range(2)]
        added = msgspec.structs.replace(old.network, issuers=(*old.network.issuers, *new.network.issuers))
        async with AsyncExitStack() as stack:
            first, other = [
                await stack.enter_async_context(
                    member(tmp_path / str(number), memory.endpoint(key.public_key), key, network, clock, number)
                )
                for number, (key, network) in enumerate(zip(keys, (added, old.network), strict=True))
            ]
            in_a_line((first, other))
            await until(lambda: first.mesh.peers and other.mesh.peers, 30)
            (peer,) = other.mesh.peers.values()
            if not told:
                peer.hello = msgspec.structs.replace(peer.hello, network_hash=old.network.hash)
            for issuer in (old, new, old):
                await first.ledger.book_record(issuer.next())[1]
            await asyncio.sleep(5)
            assert (first.records, other.records) == (3, 2)
            assert (other.mesh.peers.get(first.key.public_key) is peer) == told
            assert not other.alarms and not other.ledger.state.settings.convicted

    run_virtually(main())


def test_heads_are_told_within_a_second_of_a_change_and_every_minute(tmp_path: Path) -> None:
    """What one of two nodes hears of the other's head, as seconds of virtual time."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        teller, listener = nodes
        clock, heard = VirtualClock(), list[tuple[float, int]]()
        listener.gossip._heard_head = lambda _, head, __: heard.append((clock.monotonic(), head.size))
        in_a_line(nodes)
        await teller.ledger.book_record(grants.next())[1]
        await until(lambda: heard and heard[-1][1] == 1, 30)
        changes = []
        for size in range(2, 8):
            await asyncio.sleep(3.3)
            before = clock.monotonic()
            await teller.ledger.book_record(grants.next())[1]
            await until(lambda size=size: heard[-1][1] == size, 30)  # type: ignore[misc]
            changes.append(heard[-1][0] - before)
        print(f"heads of a changed book heard after {max(changes):.2f} s at most, {MEDIUM}")
        assert max(changes) < 1 + 0.1, "a second, and the way"
        quiet = clock.monotonic()
        await asyncio.sleep(600)
        times = [at for at, _ in heard if at >= quiet]
        assert 9 <= len(times) <= 11, "of a book that stands still once a minute, and no more"
        assert max(later - sooner for sooner, later in zip(times, times[1:], strict=False)) < 60 + 1.1

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_a_record_is_forwarded_to_six_of_many_and_not_to_who_brought_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty peers that know nobody else. The others get it when they compare their books with the node's."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        hub, *rest = nodes
        for one in rest:
            one.mesh.keep(hub.mesh.address())
        await until(lambda: len(hub.mesh.peers) == len(rest), 30)
        await asyncio.sleep(5)
        told, send = list[bytes](), Peer.send

        def noted(peer: Peer, message: Message) -> bool:
            if isinstance(message, Records) and peer in hub.mesh.peers.values():
                told.extend([peer.key] * len(message.envelopes))
            return send(peer, message)

        monkeypatch.setattr(Peer, "send", noted)
        for records in range(1, 4):
            await hub.ledger.book_record(grants.next())[1]
            await until(lambda: told, 1)
            assert (len(told), len(set(told))) == (FAN_OUT, FAN_OUT) == (6, 6)
            await converged(nodes, records, VirtualClock(), 30)
            assert len(told) == FAN_OUT, "once"
            told.clear()
        first = next(iter(hub.mesh.peers))
        monkeypatch.setattr(hub.mesh._random, "sample", lambda peers, most: peers[:most])
        (bringer,) = (node for node in rest if node.key.public_key == first)
        await bringer.ledger.book_record(grants.next())[1]
        await converged(nodes, 4, VirtualClock(), 30)
        assert len(told) == len(set(told)) == FAN_OUT - 1, "one of those drawn has it"
        assert first not in told

    meshed(tmp_path, 21, Link(delay_s=0.02), play)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_hundred_agree(tmp_path: Path) -> None:
    """Each dials three of those before it."""

    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        random = Random(200)
        for number, node in enumerate(nodes[1:], 1):
            for other in random.sample(nodes[:number], min(3, number)):
                node.mesh.keep(other.mesh.address())
        await until(lambda: all(len(node.mesh.peers) >= 3 for node in nodes[3:]), 60)
        spread = Spread(memory.traffic, MEDIUM, VirtualClock())
        for number in range(10):
            await grants.trade(nodes[20 * number])
        await converged(nodes, 20, VirtualClock(), 60)
        assert spread.told("200 at random, 3 dialled by each", 200, 20) <= 60

    meshed(tmp_path, 200, Link(delay_s=0.03, jitter_s=0.02, loss=0.01), play)


def test_who_comes_late_gets_everything(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        first, late = nodes
        for _ in range(300):
            first.ledger.book_record(grants.next())
        await first.ledger.durable()
        late.mesh.keep(first.mesh.address())
        assert await converged(nodes, 300, VirtualClock(), 30) < 5

    meshed(tmp_path, 2, Link(delay_s=0.02), play)


def test_records_that_come_while_gossip_ends_are_no_trouble(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        await until(lambda: nodes[0].mesh.peers, 30)
        (peer,) = nodes[0].mesh.peers.values()
        async with asyncio.TaskGroup() as ended:
            pass
        nodes[0].gossip._group = ended
        await nodes[0].gossip._records(peer, Records((grants.next(),)))
        assert not nodes[0].gossip._taking

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
