"""A peer that is kept: dialled again when it is lost, and no trouble when this node leaves."""

import asyncio

from tests.net.conftest import Net
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.proto import NetworkFile

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
