"""Peers of peers, in memory under the virtual clock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tirami.core.keys import SigningKey
from tirami.net import FrameReader, FrameWriter, PeerAddress, Stream, registry
from tirami.net.addressbook import AddressBook, Trust
from tirami.net.exchange import ANEW_S, ANSWERS, Exchange
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import NetworkFile, Parameters, Peers, PeerSeen, PeersWanted
from tirami.testing import Link, MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile("tirami/1/network", "testnet", Parameters(witnesses=1, quorum=1))
WANTED = registry(PeersWanted)


@dataclass
class Finder:
    mesh: Mesh
    book: AddressBook
    exchange: Exchange
    asked: int = 0

    @property
    def outward(self) -> int:
        return sum(peer.connection.dialled for peer in self.mesh.peers.values())


@asynccontextmanager
async def finder(
    memory: MemoryNetwork, seed: int, target: int, lies: Sequence[PeerSeen] | None = None
) -> AsyncIterator[Finder]:
    clock, random = VirtualClock(), Random(seed)
    endpoint = memory.endpoint(SigningKey.generate().public_key)
    mesh = Mesh(endpoint, Identity(NETWORK, "test", (), endpoint.address().direct), clock)
    book = AddressBook(mesh.key, random)
    node = Finder(mesh, book, Exchange(mesh, book, clock, clock.now_ms, random, target))

    async def asked(peer: Peer, stream: Stream) -> None:
        wanted = await FrameReader(stream, WANTED).read()
        assert isinstance(wanted, PeersWanted)
        node.asked += 1
        if lies is None:
            await node.exchange.answer(peer, stream, wanted)
        else:
            await FrameWriter(stream).write(Peers(tuple(lies)))
            await stream.finish()

    mesh.on_stream(asked)
    async with mesh.running():
        running = asyncio.create_task(node.exchange.run())
        try:
            yield node
        finally:
            running.cancel()
            await asyncio.wait([running])


def play(count: int, target: int, scene: Callable[[list[Finder], MemoryNetwork], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        memory = MemoryNetwork(seed=1, link=Link(delay_s=0.02))
        async with AsyncExitStack() as stack:
            await scene(
                [await stack.enter_async_context(finder(memory, number, target)) for number in range(count)], memory
            )

    run_virtually(main())


async def within(seconds: float, condition: Callable[[], object]) -> float:
    clock = VirtualClock()
    began = clock.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)
    return clock.monotonic() - began


def test_thirty_that_know_only_the_first_find_each_other() -> None:
    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        for node in nodes[1:]:
            node.mesh.keep(nodes[0].mesh.address())
        took = await within(120, lambda: all(node.outward >= 8 for node in nodes[1:]))
        print(f"30 nodes, memory: 8 connections of its own each after {took:.1f} s")
        assert all(len(node.book) >= 8 for node in nodes)
        assert max(node.outward for node in nodes) <= 8 + 4

    play(30, 8, scene)


def test_who_goes_is_replaced() -> None:
    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        for node in nodes[1:]:
            node.mesh.keep(nodes[0].mesh.address())
        await within(60, lambda: all(node.outward >= 3 for node in nodes[1:]))
        gone = set(list(nodes[-1].mesh.peers)[:3])
        memory.partition([gone])
        await within(120, lambda: nodes[-1].outward >= 3 and not gone & set(nodes[-1].mesh.peers))

    play(12, 3, scene)


@pytest.mark.parametrize("down_s", [61.3, 300.0, 7_200.0])
def test_after_an_outage_of_its_own_link_a_node_is_back_within_5_seconds(down_s: float) -> None:
    """Nobody is kept: those it met are called all the while, and none is forgotten."""

    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        lone, others = nodes[0], nodes[1:]
        lone.exchange.hear("lan", [other.mesh.address() for other in others], Trust.NEAR)
        await within(60, lambda: len(lone.mesh.peers) == len(others))
        memory.partition([[lone.mesh.key]])
        await asyncio.sleep(down_s)
        assert not lone.mesh.peers and len(lone.book) == len(others)
        memory.heal()
        assert await within(60, lambda: lone.mesh.peers) < 5

    play(4, 3, scene)


def test_a_liar_costs_a_few_calls_and_is_forgotten() -> None:
    """Sixty-four made-up nodes: three calls each, then nothing of them is left; the honest peer is found meanwhile."""

    async def main() -> None:
        memory = MemoryNetwork(seed=1, link=Link(delay_s=0.02))
        made_up = [PeerSeen(SigningKey.generate().public_key, (f"10.9.9.{n}:1",)) for n in range(64)]
        async with finder(memory, 1, 4, made_up) as liar, finder(memory, 2, 4) as honest, finder(memory, 3, 4) as other:
            honest.mesh.keep(liar.mesh.address())
            await honest.mesh.wait_for(liar.mesh.key, 5)
            await within(5, lambda: len(honest.book) == 1 + 32)
            honest.exchange.hear("lan", [other.mesh.address()], Trust.NEAR)
            await within(60, lambda: other.mesh.key in honest.mesh.peers)
            await within(3_600, lambda: len(honest.book) == 2)

    run_virtually(main())


def test_who_answers_with_another_key_is_not_taken_for_it() -> None:
    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        claimed = SigningKey.generate().public_key
        nodes[0].exchange.hear("liar", [PeerAddress(claimed, nodes[1].mesh.address().direct)], Trust.NEAR)
        await within(3_600, lambda: len(nodes[0].book) == 0 or claimed not in [*nodes[0].mesh.peers])
        assert claimed not in nodes[0].mesh.peers

    play(2, 4, scene)


def test_peers_are_asked_anew_when_somebody_is_wanted_and_each_seldom() -> None:
    """The third node comes after the second has asked whom the first knows."""

    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        hub, buyer, late = nodes
        buyer.mesh.keep(hub.mesh.address())
        await within(10, lambda: hub.asked == 1)
        await asyncio.sleep(ANEW_S)
        late.mesh.keep(hub.mesh.address())
        await within(10, lambda: late.mesh.key in hub.book)
        assert late.mesh.key not in buyer.book
        for _ in range(20):
            buyer.exchange.ask_anew()
        assert await within(10, lambda: late.mesh.key in buyer.book) < 1
        for _ in range(20):
            buyer.exchange.ask_anew()
            await asyncio.sleep(1)
        assert hub.asked <= 2 + 1 + 2, "of the three, and two more within 20 s"

    play(3, 0, scene)


def test_strangers_that_never_answer_hold_up_nobody_this_node_chose() -> None:
    async def main() -> None:
        memory, clock = MemoryNetwork(seed=1, link=Link(delay_s=0.02)), VirtualClock()

        async def silent(peer: Peer, stream: Stream) -> None:
            await asyncio.Event().wait()

        async with AsyncExitStack() as stack:
            lone, honest, far = [await stack.enter_async_context(finder(memory, seed, 1)) for seed in range(3)]
            honest.mesh.keep(far.mesh.address())
            await within(10, lambda: far.mesh.key in honest.book)
            for _ in range(20):
                mesh = Mesh(memory.endpoint(SigningKey.generate().public_key), Identity(NETWORK, "test"), clock)
                mesh.on_stream(silent)
                await stack.enter_async_context(mesh.running())
                await mesh.connect(lone.mesh.address())
            await within(10, lambda: len(lone.mesh.peers) == 20)
            lone.exchange.hear("lan", [honest.mesh.address()], Trust.NEAR)
            assert await within(60, lambda: far.mesh.key in lone.book) < 10

    run_virtually(main())


def test_who_asks_too_often_is_told_nobody() -> None:
    async def scene(nodes: list[Finder], memory: MemoryNetwork) -> None:
        nodes[1].mesh.keep(nodes[0].mesh.address())
        nodes[2].mesh.keep(nodes[0].mesh.address())
        await within(10, lambda: len(nodes[0].book) == 2 and nodes[0].asked == 2)
        await asyncio.sleep(10)
        peer = nodes[1].mesh.peers[nodes[0].mesh.key]

        async def ask() -> Peers:
            stream = await peer.connection.open()
            await FrameWriter(stream).write(PeersWanted(8))
            answer = await FrameReader(stream, ANSWERS).read()
            assert isinstance(answer, Peers)
            return answer

        assert [seen.key for seen in (await ask()).peers] == [nodes[2].mesh.key]
        assert (await ask()).peers == ()

    play(3, 0, scene)
