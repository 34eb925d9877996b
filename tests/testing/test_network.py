"""The network in memory under virtual time: delay, loss, partitions, broken links, and the same again from a seed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import pytest

from tirami.core.errors import ConnectionLost, PeerUnreachable, StreamEnded
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import PeerAddress
from tirami.testing import Link, MemoryConnection, MemoryEndpoint, MemoryNetwork, MemoryStream, run_virtually
from tirami.testing.streams import MAX_STREAMS, WINDOW

A, B, C, D = (SigningKey.from_seed(bytes([number]) * 32).public_key for number in range(1, 5))


def now() -> float:
    return asyncio.get_running_loop().time()


async def connected(
    network: MemoryNetwork, a: PublicKey = A, b: PublicKey = B
) -> tuple[MemoryConnection, MemoryConnection]:
    ends = [network._by_key.get(key) or network.endpoint(key) for key in (a, b)]
    dialled = await ends[0].connect(ends[1].address(), 5)
    answered = await ends[1].accept()
    assert answered is not None
    return dialled, answered


async def stream(network: MemoryNetwork) -> tuple[MemoryStream, MemoryStream]:
    dialled, answered = await connected(network)
    mine = await dialled.open()
    await mine.write(b"!")
    theirs = await answered.accept()
    await theirs.read(1)
    return mine, theirs


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            await test()

        run_virtually(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@virtually
async def test_a_way_takes_its_time() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.05))
    dialled, answered = await connected(network)
    assert now() == pytest.approx(0.1)
    assert dialled.rtt_ms == answered.rtt_ms == 100
    mine = await dialled.open()
    await mine.write(b"ping")
    theirs = await answered.accept()
    assert now() == pytest.approx(0.15)
    assert await theirs.read(4) == b"ping"
    await theirs.write(b"pong")
    assert await mine.read(4) == b"pong"
    assert now() == pytest.approx(0.2)
    dialled.close("enough")
    assert await dialled.closed() == "enough"
    assert now() == pytest.approx(0.2)
    assert await answered.closed() == "enough"
    assert now() == pytest.approx(0.25)


@virtually
async def test_a_narrow_way_takes_longer() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.01, bandwidth=1_000_000))
    mine, theirs = await stream(network)
    began = now()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(mine.write(bytes(5_000_000)))
        await theirs.read(5_000_000)
    assert now() - began == pytest.approx(5, rel=0.05)


@virtually
async def test_loss_delays_and_loses_nothing() -> None:
    data = bytes(number % 251 for number in range(300_000))

    async def seconds(loss: float, seed: int = 1) -> tuple[float, int]:
        network = MemoryNetwork(seed=seed, link=Link(delay_s=0.02, jitter_s=0.01, loss=loss))
        mine, theirs = await stream(network)
        began = now()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mine.write(data))
            assert await theirs.read(len(data)) == data
        return now() - began, network.sent(A, B).lost_packets

    clean, none = await seconds(0)
    lossy, lost = await seconds(0.1)
    assert none == 0 and clean < 0.1
    assert 10 < lost < 80 and lossy > clean + 0.05
    assert await seconds(0.1) == pytest.approx((lossy, lost))
    assert await seconds(0.1, seed=2) != pytest.approx((lossy, lost))


@virtually
async def test_a_lost_packet_holds_its_own_stream_only() -> None:
    network = MemoryNetwork(seed=3, link=Link(delay_s=0.01, loss=0.3))
    dialled, answered = await connected(network)
    arrivals: dict[bytes, float] = {}

    async def receive(incoming: MemoryStream) -> None:
        data = await incoming.read(2)
        arrivals[data] = now()

    began = now()
    async with asyncio.TaskGroup() as tasks:
        for number in range(30):
            await (await dialled.open()).write(b"%02d" % number)
        for _ in range(30):
            tasks.create_task(receive(await answered.accept()))
    assert len(arrivals) == 30
    taken = [when - began for when in arrivals.values()]
    assert min(taken) == pytest.approx(0.01) and max(taken) > 0.03


def test_the_same_seed_does_the_same_again() -> None:
    async def course(seed: int) -> list[object]:
        link = Link(delay_s=0.03, jitter_s=0.02, loss=0.05, lifetime_s=20)
        network = MemoryNetwork(seed=seed, link=link)
        ends = [network.endpoint(key) for key in (A, B, C, D)]
        events: list[object] = []

        async def serve(end: MemoryEndpoint) -> None:
            async with asyncio.TaskGroup() as answering:
                while (connection := await end.accept()) is not None:
                    answering.create_task(answer(connection))

        async def answer(connection: MemoryConnection) -> None:
            try:
                while True:
                    incoming = await connection.accept()
                    await incoming.write(await incoming.read(2000))
                    await incoming.finish()
            except ConnectionLost as error:
                events.append((now(), error.message))

        async def ask(end: MemoryEndpoint, other: MemoryEndpoint) -> None:
            while now() < 60:
                try:
                    connection = await end.connect(other.address(), 5)
                    while now() < 60:
                        asked = await connection.open()
                        await asked.write(bytes(2000))
                        await asked.read(2000)
                        events.append((now(), end.key[:2], other.key[:2]))
                        await asyncio.sleep(1)
                except (ConnectionLost, PeerUnreachable, StreamEnded) as error:
                    events.append((now(), error.message))

        async def trouble() -> None:
            await asyncio.sleep(10)
            network.partition([[A, B], [C, D]])
            await asyncio.sleep(15)
            network.heal()

        async with asyncio.TaskGroup() as everything:
            for end in ends:
                everything.create_task(serve(end))
            async with asyncio.TaskGroup() as askers:
                askers.create_task(trouble())
                for end in ends:
                    for other in ends:
                        if end is not other:
                            askers.create_task(ask(end, other))
            for end in ends:
                await end.close()
        return [*events, asdict(network.traffic)]

    first = run_virtually(course(5))
    assert len(first) > 300
    assert run_virtually(course(5)) == first
    assert run_virtually(course(6)) != first


@virtually
async def test_a_partition_holds_what_is_under_way_and_healing_sends_it() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.05))
    mine, theirs = await stream(network)
    await mine.write(b"before")
    network.partition([[A], [B]])
    await mine.write(b"during")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await theirs.read(1)
    network.heal()
    await mine.write(b"after")
    healed = now()
    assert await theirs.read(17) == b"beforeduringafter"
    assert now() - healed == pytest.approx(0.05)


@virtually
async def test_a_long_partition_ends_connections_on_both_sides() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.05, idle_s=30))
    dialled, answered = await connected(network)
    mine = await dialled.open()
    network.partition([[A]])  # B is with whoever is in no group
    began = now()
    reading = asyncio.create_task(mine.read(1))
    assert await dialled.closed() == await answered.closed() == "timed out"
    assert now() - began == pytest.approx(30)
    with pytest.raises(ConnectionLost, match="timed out"):
        await reading
    a, b = network._by_key[A], network._by_key[B]
    with pytest.raises(PeerUnreachable, match="within 5 s"):
        await a.connect(b.address(), 5)
    dialling = asyncio.create_task(a.connect(b.address(), 60))
    await asyncio.sleep(10)
    network.heal()
    healed = now()
    assert (await dialling).peer == B
    assert now() - healed == pytest.approx(0.1)


@virtually
async def test_who_closes_during_a_partition_leaves_the_other_to_time_out() -> None:
    network = MemoryNetwork(link=Link(idle_s=30))
    for number in range(2):
        ends = await connected(network)
        network.cut(A, B)
        began = now()
        ends[number].close("gone")
        assert await ends[number].closed() == "gone"
        assert await ends[1 - number].closed() == "timed out"
        assert now() - began == pytest.approx(30)
        network.mend(A, B)
        assert not network.between(A, B).connections


@virtually
async def test_a_short_partition_restarts_the_idle_time() -> None:
    network = MemoryNetwork(link=Link(idle_s=30))
    dialled, _ = await connected(network)
    for _ in range(5):
        network.partition([[A], [B]])
        await asyncio.sleep(20)
        network.heal()
    ending = asyncio.create_task(dialled.closed())
    await asyncio.sleep(100)
    assert not ending.done()
    dialled.close("done")
    await ending


@virtually
async def test_groups_and_cuts() -> None:
    network = MemoryNetwork()
    a, b, c, d = (network.endpoint(key) for key in (A, B, C, D))

    async def reaches(one: MemoryEndpoint, other: MemoryEndpoint) -> bool:
        try:
            (await one.connect(other.address(), 1)).close("")
        except PeerUnreachable:
            return False
        return True

    network.partition([[A, B]])
    assert await reaches(a, b) and await reaches(c, d)
    assert not await reaches(a, c) and not await reaches(d, b)
    network.heal()
    network.cut(B, A)
    assert not await reaches(a, b) and await reaches(a, c) and await reaches(b, c)
    network.partition([[A, C], [B, D]])
    network.mend(A, B)
    assert not await reaches(a, b)
    network.heal()
    assert await reaches(a, b)


@virtually
async def test_a_dropped_link_is_dialled_anew_at_once() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.05))
    dialled, answered = await connected(network)
    mine = await dialled.open()
    network.drop(A, B)
    assert await dialled.closed() == await answered.closed() == "the link broke"
    with pytest.raises(ConnectionLost, match="the link broke"):
        await mine.read(1)
    broke = now()
    again, _ = await connected(network)
    assert again.peer == B and now() - broke == pytest.approx(0.1)


@virtually
async def test_links_break_of_themselves_after_their_lifetime() -> None:
    network = MemoryNetwork(seed=1, link=Link(lifetime_s=100))
    lifetimes = []
    for _ in range(200):
        dialled, answered = await connected(network)
        began = now()
        assert await answered.closed() == "the link broke"
        assert await dialled.closed() == "the link broke"
        lifetimes.append(now() - began)
    assert 70 < sum(lifetimes) / len(lifetimes) < 140


@virtually
async def test_one_way_may_be_worse_than_the_others() -> None:
    network = MemoryNetwork()
    network.set_link(A, B, Link(delay_s=1))
    dialled, _ = await connected(network)
    assert dialled.rtt_ms == 2000
    assert (await connected(network, A, C))[0].rtt_ms == 0


@virtually
async def test_counters() -> None:
    network = MemoryNetwork()
    mine, theirs = await stream(network)
    await mine.write(bytes(50_000))
    await theirs.read(50_000)
    await theirs.write(b"ok")
    assert (network.sent(A, B).messages, network.sent(A, B).bytes) == (2, 50_001)
    assert (network.sent(B, A).messages, network.sent(B, A).bytes) == (1, 2)
    assert (network.traffic.messages, network.traffic.bytes) == (3, 50_003)


@virtually
async def test_a_writer_waits_for_its_reader_at_the_window() -> None:
    network = MemoryNetwork(link=Link(delay_s=0.01))
    mine, theirs = await stream(network)
    writing = asyncio.create_task(mine.write(bytes(WINDOW + 1)))
    await asyncio.sleep(60)
    assert not writing.done()
    await theirs.read(1)
    await writing


@virtually
async def test_open_waits_while_too_many_streams_are_open() -> None:
    network = MemoryNetwork()
    dialled, answered = await connected(network)
    opened = [await dialled.open() for _ in range(MAX_STREAMS)]
    for each in opened:
        await each.write(b"x")
        await each.finish()
    waiting = asyncio.create_task(dialled.open())
    await asyncio.sleep(1)
    assert not waiting.done()
    accepted = await answered.accept()
    await accepted.finish()
    await asyncio.sleep(1)
    await waiting
    waiting = asyncio.create_task(dialled.open())
    await opened[-1].reset()
    await asyncio.sleep(1)
    assert not waiting.done()  # it still waits for accept
    for _ in range(MAX_STREAMS - 1):
        await (await answered.accept()).reset()
    await waiting
    waiting.cancel()


@virtually
async def test_a_name_is_bound_once_and_can_come_back() -> None:
    network = MemoryNetwork()
    a, b = network.endpoint(A), network.endpoint(B)
    with pytest.raises(ValueError, match="bound already"):
        network.endpoint(B)
    await b.close()
    dialling = asyncio.create_task(a.connect(PeerAddress(B), 30))
    await asyncio.sleep(10)
    again = network.endpoint(B)
    assert again.address() == b.address()
    assert (await dialling).peer == B


def test_a_link_makes_sense() -> None:
    for wrong in ({"loss": 1.0}, {"loss": -0.1}, {"delay_s": -1}, {"jitter_s": -1}):
        with pytest.raises(ValueError, match="delay"):
            Link(**wrong)
