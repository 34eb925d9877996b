"""The first exchange: who speaks no common version, or belongs to another network, is told so, and so is this side."""

import asyncio

import msgspec
import pytest

from tests.net.conftest import Net
from tirami.core.clock import SystemClock
from tirami.core.errors import MeshError, NoCommonVersion, PeerRefused, WireError
from tirami.core.keys import SigningKey
from tirami.net import FrameReader, FrameWriter
from tirami.net.hello import Identity, Remembered, introduce
from tirami.net.mesh import Mesh
from tirami.net.peer import CONTROL
from tirami.proto import VERSION, Hello, Message, NetworkFile, Ping

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)
OWN = Identity(NETWORK, "test").hello(Remembered())


def hello(**changed: object) -> Hello:
    return msgspec.structs.replace(OWN, **changed)


async def met(net: Net, first: Hello | Message, second: Hello) -> list[Hello | BaseException]:
    """What comes of it for each side; the first may say something else than a hello."""
    dialled, answered = await net.pair()

    async def one() -> Hello:
        stream = await dialled.open()
        reader, writer = FrameReader(stream, CONTROL), FrameWriter(stream)
        if isinstance(first, Hello):
            return await introduce(reader, writer, first)
        await writer.write(first)
        found = await reader.read()
        assert isinstance(found, Hello)
        return found

    async def other() -> Hello:
        stream = await answered.accept()
        return await introduce(FrameReader(stream, CONTROL), FrameWriter(stream), second)

    async with asyncio.timeout(10):
        return await asyncio.gather(one(), other(), return_exceptions=True)


async def test_two_of_one_network_agree(net: Net) -> None:
    assert await met(net, hello(agent="a"), hello(agent="b")) == [hello(agent="b"), hello(agent="a")]


async def test_ranges_of_versions_need_one_in_common(net: Net) -> None:
    newer = hello(version_min=VERSION, version_max=VERSION + 3)
    assert await met(net, hello(), newer) == [newer, hello()]
    for error in await met(net, hello(), hello(version_min=VERSION + 1, version_max=VERSION + 3)):
        assert isinstance(error, NoCommonVersion), error
        assert f"versions {VERSION}" in str(error) or f"meet {VERSION}" in str(error)


async def test_another_network_is_named(net: Net) -> None:
    for error in await met(net, hello(), hello(network="othernet")):
        assert isinstance(error, PeerRefused), error
        assert error.data["refused"] == "other_network"
        assert "othernet" in str(error) and NETWORK.id in str(error)


async def test_another_file_of_the_same_network_is_met_all_the_same(net: Net) -> None:
    other = hello(network_hash=bytes(32))
    assert await met(net, hello(), other) == [other, hello()]


async def test_a_connection_that_begins_with_something_else_ends(net: Net) -> None:
    _, error = await met(net, Ping(1), hello())
    assert isinstance(error, WireError)
    assert "begins with a Hello, not a Ping" in str(error)


async def test_a_node_of_another_network_is_no_peer(net: Net) -> None:
    other = NetworkFile.regtest(SigningKey.generate().public_key)
    other = msgspec.structs.replace(other, id="othernet")
    async with asyncio.timeout(30):
        a = Mesh(await net.endpoint(), Identity(NETWORK, "test"), SystemClock())
        b = Mesh(await net.endpoint(), Identity(other, "test"), SystemClock())
        async with a.running(), b.running():
            with pytest.raises(MeshError):
                await a.connect(b.address())
            assert not a.peers and not b.peers
