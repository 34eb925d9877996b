"""What one peer may ask: paced, not believed; and records nothing covers have a bounded place."""

import asyncio

import pytest

from tests.net.conftest import Net
from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import MeshError, WireError
from tirami.core.keys import SigningKey
from tirami.net import FrameWriter, budget, unfunded
from tirami.net.budget import Bucket, Budget
from tirami.net.hello import Identity, Remembered
from tirami.net.mesh import Mesh
from tirami.net.unfunded import Unfunded
from tirami.proto import Ask, NetworkFile, Ping, Reconcile, SignalSeen
from tirami.testing import VirtualClock, run_virtually


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(10, 20, 0)
    assert [bucket.take(10, 0), bucket.take(10, 0)] == [0, 0]
    assert bucket.take(5, 0) == 0.5
    assert bucket.take(5, 1) == 0, "half a second of it was owed"
    assert bucket.allows(1, 1) is False
    assert bucket.allows(1, 1.2) is True
    assert bucket.allows(20, 100) is True
    assert bucket.allows(1, 50) is False, "a clock that goes back gives nothing"


def test_who_talks_too_fast_is_read_no_faster() -> None:
    async def main() -> None:
        clock = VirtualClock()
        limits = Budget(clock)
        for _ in range(16 + 40):
            await limits.pace(Ping.TYPE, 5)
        assert clock.monotonic() == pytest.approx(10), "16 at once, then 4 a second"
        for _ in range(100 + 60):
            await limits.pace(0x9000, 100)
        assert clock.monotonic() == pytest.approx(13), "types nobody knows share one budget"
        for _ in range(12):
            await limits.pace(0x0010, 1024 * 1024)
        assert clock.monotonic() == pytest.approx(15, abs=0.01), "8 MB at once, then 2 a second"

    run_virtually(main())


def test_who_takes_and_leaves_locks_nobody_out_for_longer_than_a_burst_takes() -> None:
    bucket = Bucket(5.0, 40.0, 0.0)
    for _ in range(1_000):
        bucket.take(6.0, 0.0)
    assert bucket.take(1.0, 0.0) == 40 / 5
    assert bucket.take(1.0, 8.0) == 1 / 5


def test_others_have_their_turn_between_any_two_messages() -> None:
    async def main() -> None:
        limits, turns = Budget(VirtualClock()), 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        for _ in range(100):
            await limits.pace(SignalSeen.TYPE, 5)
        beside.cancel()
        assert turns >= 100, "a burst that is allowed holds nobody up"

    run_virtually(main())


def test_streams_are_few_and_who_insists_is_no_peer() -> None:
    async def main() -> None:
        limits = Budget(VirtualClock())
        assert all(limits.enter() for _ in range(budget.STREAMS))
        assert not any(limits.enter() for _ in range(10))
        with pytest.raises(WireError):
            limits.enter()
        limits.leave()
        assert limits.enter()

    run_virtually(main())


def test_streams_of_a_kind_are_paced() -> None:
    async def main() -> None:
        clock = VirtualClock()
        limits = Budget(clock)
        assert [limits.opens(Reconcile.TYPE) for _ in range(17)] == [True] * 16 + [False]
        assert limits.opens(Ask.TYPE), "each kind has its own"
        await asyncio.sleep(2)
        assert [limits.opens(Reconcile.TYPE) for _ in range(3)] == [True, True, False]

    run_virtually(main())


async def test_a_peer_that_opens_streams_without_end_is_closed(net: Net) -> None:
    network = NetworkFile.regtest(SigningKey.generate().public_key)
    mesh = Mesh(await net.endpoint(), Identity(network, "test"), SystemClock())
    async with mesh.running():
        connection = await (await net.endpoint()).connect(mesh.address(), 5)
        stream = await connection.open()
        await FrameWriter(stream).write(Identity(network, "test").hello(Remembered()))
        await until(lambda: mesh.peers)
        mesh.on_stream(lambda peer, stream: stream.read(100))  # type: ignore[arg-type, return-value]
        with pytest.raises(MeshError):
            while True:
                await (await connection.open()).write(b"x")
        assert "streams" in await connection.closed()


def test_unfunded_records_are_bounded_for_payer_peer_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfunded, "OF_PAYER", 2)
    monkeypatch.setattr(unfunded, "OF_PEER", 3)
    monkeypatch.setattr(unfunded, "IN_ALL", 5)
    settled: set[bytes] = set()
    records = Unfunded(settled.__contains__)
    names = iter(bytes([number]) for number in range(100))

    def take(payer: bytes, peer: bytes | None, now: float = 0) -> bool:
        return records.take(next(names), payer, peer, now)

    assert [take(b"a", b"p"), take(b"a", b"p"), take(b"a", b"q")] == [True, True, False]
    assert [take(b"b", b"p"), take(b"c", b"p"), take(b"c", b"q")] == [True, False, True]
    assert [take(b"d", b"r"), take(b"e", b"s")] == [True, False]
    assert len(records) == 5
    assert records.take(b"\0", b"a", b"p", 0), "it has its place"
    assert len(records) == 5
    settled.add(b"\0")
    assert not take(b"f", b"s", 0.5), "it is not gone through all the time"
    assert take(b"f", b"s", 1.5)
    assert not take(b"f", b"s", 3)
