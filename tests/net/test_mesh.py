"""Who becomes a peer."""

import asyncio
from contextlib import suppress

from tests.net.test_kept import NETWORK
from tirami.core.errors import MeshError
from tirami.core.keys import PublicKey, SigningKey
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually


def test_who_is_refused_while_it_introduces_itself_is_no_peer() -> None:
    async def main() -> None:
        clock, memory, refused = VirtualClock(), MemoryNetwork(seed=1), dict[PublicKey, str]()
        keys = [SigningKey.generate() for _ in range(2)]
        other = Mesh(memory.endpoint(keys[0].public_key), Identity(NETWORK, "test"), clock, refuse=refused.get)
        own = Mesh(memory.endpoint(keys[1].public_key), Identity(NETWORK, "test"), clock)
        async with other.running(), own.running():
            connection = await own._endpoint.connect(other.address(), 5)
            await asyncio.sleep(1)
            assert other._origins._all == 1, "a connection, of which nothing was said yet"
            refused[own.key] = "not you any more"
            with suppress(MeshError):
                await own._introduce(connection)
            await asyncio.sleep(1)
            assert not other.peers and not other._origins._all
            assert await connection.closed() == "not you any more"

    run_virtually(main())
