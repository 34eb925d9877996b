"""Peers learn how their clocks stand to each other: from every pong, so that one that is set right is so at once."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tirami.core.clock import apart
from tirami.core.keys import SigningKey
from tirami.core.units import UnixMs
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.proto import NetworkFile
from tirami.testing import Link, MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)


def test_each_knows_how_far_the_others_clock_is_ahead_and_says_it_once() -> None:
    async def main() -> None:
        clock, memory, off = VirtualClock(), MemoryNetwork(seed=1, link=Link(delay_s=0.1)), [180_000]
        one, other = (memory.endpoint(SigningKey.generate().public_key) for _ in range(2))
        here = Mesh(one, Identity(NETWORK, "test"), clock)
        there = Mesh(other, Identity(NETWORK, "test"), clock, now=lambda: UnixMs(clock.now_ms() + off[0]))
        with capture_logs() as logs:
            async with here.running(), there.running():
                peer = await here.connect(there.address())
                await there.wait_for(here.key, 5)
                assert peer.ahead_ms is None, "it has not said"
                await asyncio.sleep(5)
                assert abs((peer.ahead_ms or 0) - 180_000) <= 10, "half the way there and back is its age"
                assert abs((there.peers[here.key].ahead_ms or 0) + 180_000) <= 10
                off[0] = 0
                await asyncio.sleep(3)
                assert abs(peer.ahead_ms or 0) <= 10
        told = [line for line in logs if line["event"] == "peer_clock_differs"]
        assert sorted(line["ahead_s"] for line in told) == [-180, 180]

    run_virtually(main())


@pytest.mark.parametrize(
    ("ahead_ms", "words"),
    [
        (180_000, "3 minutes ahead of"),
        (-180_000, "3 minutes behind"),
        (60_000, "1 minute ahead of"),
        (7_200_000, "120 minutes ahead of"),
    ],
)
def test_in_words(ahead_ms: int, words: str) -> None:
    assert apart(ahead_ms) == words
