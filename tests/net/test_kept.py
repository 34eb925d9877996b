"""A peer that is kept: dialled again when it is lost, and no trouble when this node leaves."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.net.conftest import Net
from tirami.core.clock import SystemClock
from tirami.core.keys import PublicKey, SigningKey
from tirami.net import Connection, PeerAddress, Stream
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import NetworkFile
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)


async def test_losing_and_leaving_a_kept_peer_holds_nobody_up(net: Net) -> None:
    """Its connection ends a while before its owner lets go of it: whoever keeps it waits, and lets others run."""
    kept, own = [Mesh(await net.endpoint(), Identity(NETWORK, "test"), SystemClock()) for _ in range(2)]
    async with asyncio.timeout(30):
        async with own.running():
            async with kept.running():
                own.keep(kept.address())
                await own.wait_for(kept.key, 10)
            while kept.key in own.peers:
                await asyncio.sleep(0.01)
        again, other = [Mesh(await net.endpoint(), Identity(NETWORK, "test"), SystemClock()) for _ in range(2)]
        async with again.running():
            async with other.running():
                other.keep(again.address())
                await other.wait_for(again.key, 10)


@pytest.mark.parametrize("down_s", [20.0, 61.3, 64.9, 300.0])
def test_within_5_seconds_after_a_long_outage_a_kept_peer_is_back(down_s: float) -> None:
    """And no call a second is made meanwhile."""

    async def main() -> tuple[float, int]:
        clock, memory, calls = VirtualClock(), MemoryNetwork(seed=1), 0
        keys = [SigningKey.generate() for _ in range(2)]
        kept, own = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys]
        connect = own._endpoint.connect

        async def counted(address: PeerAddress, timeout_s: float) -> Connection:
            nonlocal calls
            calls += 1
            return await connect(address, timeout_s)

        own._endpoint.connect = counted  # type: ignore[method-assign]
        async with kept.running(), own.running():
            own.keep(kept.address())
            await own.wait_for(kept.key, 10)
            await asyncio.sleep(60)
            memory.cut(own.key, kept.key)
            await asyncio.sleep(down_s)
            assert kept.key not in own.peers
            memory.mend(own.key, kept.key)
            back, tried = clock.monotonic(), calls
            await own.wait_for(kept.key, 60)
            return clock.monotonic() - back, tried

    took_s, calls = run_virtually(main())
    assert took_s < 5
    assert calls <= 2 + down_s / 2


def test_who_does_not_want_this_node_is_called_ever_more_seldom() -> None:
    async def main() -> int:
        clock, memory, calls = VirtualClock(), MemoryNetwork(seed=1), 0
        keys = [SigningKey.generate() for _ in range(2)]

        def refuse(_: PublicKey) -> str:
            nonlocal calls
            calls += 1
            return "not you"

        kept = Mesh(memory.endpoint(keys[0].public_key), Identity(NETWORK, "test"), clock, refuse=refuse)
        own = Mesh(memory.endpoint(keys[1].public_key), Identity(NETWORK, "test"), clock)
        async with kept.running(), own.running():
            own.keep(kept.address())
            await asyncio.sleep(600)
        return calls

    assert 600 / 30 <= run_virtually(main()) <= 600 / 22 + 7


def test_a_kept_peer_is_called_again_although_an_answer_still_runs_on_another_connection() -> None:
    async def patient(peer: Peer, stream: Stream) -> None:
        await asyncio.sleep(3_600)

    async def main() -> None:
        clock, memory = VirtualClock(), MemoryNetwork(seed=1)
        keys = sorted((SigningKey.generate() for _ in range(2)), key=lambda key: key.public_key)
        kept, own = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys]
        kept.on_stream(patient)
        async with kept.running(), own.running():
            own.keep(kept.address())
            first = await own.wait_for(kept.key, 5)
            await (await first.places.open()).write(b"a")
            await kept.wait_for(own.key, 5)
            await kept._introduce(await kept._endpoint.connect(own.address(), 5))
            await asyncio.sleep(1)
            assert own.peers[kept.key] is not first, "the smaller key's call stays"
            await asyncio.sleep(10)
            own.peers[kept.key].close("lost")
            await asyncio.sleep(5)
            assert not first.gone.is_set()
            assert kept.key in own.peers

    run_virtually(main())


def test_what_is_ordinary_raises_no_alarm() -> None:
    """Two that call each other, a caller that only looks, and one that is away and called again and again."""

    async def main() -> list[tuple[str, str]]:
        memory, clock = MemoryNetwork(seed=1), VirtualClock()
        keys = [SigningKey.generate() for _ in range(4)]
        a, b = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys[:2]]
        stranger, away = memory.endpoint(keys[2].public_key), keys[3].public_key
        with capture_logs() as logs:
            async with a.running(), b.running():
                a.keep(b.address())
                b.keep(a.address())
                a.keep(PeerAddress(away, ("10.9.9.9:1",)))
                (await stranger.connect(a.address(), 5)).close("a probe")
                await asyncio.sleep(120)
                assert set(a.missed) == {away} and away.hex() in a.missed[away].reason
                assert a.missed[away].again_s > clock.monotonic() - 6
                assert list(a.peers) == [b.key]
        return [(log["event"], log["peer"]) for log in logs if log["log_level"] != "debug" and "peer" in log]

    said = run_virtually(main())
    events = [event for event, _ in said]
    assert events.count("peer_connected") == 2, said  # once by each
    assert events.count("peer_unreachable") == 1, said
    assert "peer_refused" not in events, said
