"""Who becomes a peer."""

import asyncio
from contextlib import suppress

import pytest

from tests.net.test_kept import NETWORK
from tirami.core.errors import MeshError
from tirami.core.keys import PublicKey, SigningKey
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually
from tirami.testing.streams import MemoryConnection, MemoryStream


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


@pytest.mark.parametrize(("kind", "call"), [(MemoryConnection, "open"), (MemoryStream, "write")])
def test_who_is_called_and_takes_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, kind: type[object], call: str
) -> None:
    """It grants no stream, or no byte on it: for its caller that is a window that never opens."""

    async def main() -> None:
        clock, memory = VirtualClock(), MemoryNetwork(seed=1)
        keys = [SigningKey.generate() for _ in range(2)]
        other, own = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys]

        async def stuck(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(kind, call, stuck)
        async with other.running(), own.running():
            with pytest.raises(MeshError):
                async with asyncio.timeout(60):
                    await own.connect(other.address())
            assert clock.monotonic() < 10
            assert not own.peers and not own._origins._all

    run_virtually(main())
