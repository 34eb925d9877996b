"""Two nodes that call each other at the same time: one connection stays, and nothing that runs on the other is cut."""

import asyncio

import pytest

from tirami.core.errors import StreamEnded
from tirami.core.keys import SigningKey
from tirami.net import Stream
from tirami.net.hello import Identity
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.session import SESSION_S
from tirami.proto import NetworkFile
from tirami.testing import MemoryNetwork, VirtualClock, run_virtually

NETWORK = NetworkFile.regtest(SigningKey.generate().public_key)


async def _echo(peer: Peer, stream: Stream) -> None:
    """Answers byte by byte until the other side finishes."""
    while True:
        try:
            byte = await stream.read(1)
        except StreamEnded:
            await stream.finish()
            return
        await stream.write(byte)


def _pair() -> tuple[Mesh, Mesh]:
    """The one with the smaller key first."""
    clock, memory = VirtualClock(), MemoryNetwork(seed=1)
    keys = sorted((SigningKey.generate() for _ in range(2)), key=lambda key: key.public_key)
    smaller, larger = [Mesh(memory.endpoint(key.public_key), Identity(NETWORK, "test"), clock) for key in keys]
    for mesh in (smaller, larger):
        mesh.on_stream(_echo)
    return smaller, larger


async def _called_by(caller: Mesh, callee: Mesh) -> Peer:
    """A call made although there may be a connection: it was under way before the other one came."""
    return await caller._introduce(await caller._endpoint.connect(callee.address(), 5))


async def _one_more(stream: Stream, byte: bytes) -> None:
    await stream.write(byte)
    assert await stream.read(1) == byte


@pytest.mark.parametrize("first", ["smaller", "larger"], ids=lambda key: f"the call of the {key} key first")
@pytest.mark.parametrize("asker", [0, 1], ids=["the smaller asks", "the larger asks"])
def test_an_answer_under_way_is_not_cut_off_by_a_second_connection(first: str, asker: int) -> None:
    async def main() -> None:
        smaller, larger = _pair()
        async with smaller.running(), larger.running():
            calls = [(smaller, larger), (larger, smaller)][:: 1 if first == "smaller" else -1]
            await _called_by(*calls[0])
            asking, asked = [(smaller, larger), (larger, smaller)][asker]
            asking_peer = await asking.wait_for(asked.key, 5)
            await asked.wait_for(asking.key, 5)
            stream = await asking_peer.places.open()
            await _one_more(stream, b"a")
            await _called_by(*calls[1])
            for second in range(30):
                await _one_more(stream, bytes([second]))
                await asyncio.sleep(1)
            kept = smaller.peers[larger.key], larger.peers[smaller.key]
            assert [peer.connection.dialled for peer in kept] == [True, False], "both keep what the smaller key called"
            await stream.finish()
            await stream.reset()
            if first == "larger":
                await asyncio.wait_for(asking_peer.gone.wait(), 10)
            await asyncio.sleep(10)
            assert (smaller.peers[larger.key], larger.peers[smaller.key]) == kept
            assert [mesh._origins._all for mesh in (smaller, larger)] == [1, 1], "one connection is left"

    run_virtually(main())


def test_a_call_that_comes_second_and_goes_again_answers_what_was_asked_on_it() -> None:
    """Who dialled it may have opened a stream before it knew of the other."""

    async def main() -> None:
        smaller, larger = _pair()
        async with smaller.running(), larger.running():
            await _called_by(smaller, larger)
            await larger.wait_for(smaller.key, 5)
            connection = await larger._endpoint.connect(smaller.address(), 5)
            second = Peer(connection, larger._identity.hello(larger._seen(smaller.key)), larger._clock)
            await second.introduced()
            stream = await connection.open()
            await _one_more(stream, b"a")
            await _one_more(stream, b"b")
            assert smaller.peers[larger.key].connection.dialled
            await stream.finish()
            assert await asyncio.wait_for(connection.closed(), 10) == "connected twice"

    run_virtually(main())


def test_who_calls_again_and_again_has_no_more_than_two_connections() -> None:
    async def main() -> None:
        smaller, larger = _pair()
        async with smaller.running(), larger.running():
            await _called_by(smaller, larger)
            for _ in range(20):
                connection = await larger._endpoint.connect(smaller.address(), 5)
                peer = Peer(connection, larger._identity.hello(larger._seen(smaller.key)), larger._clock)
                await peer.introduced()
                await _one_more(await connection.open(), b"a")
                assert smaller._origins._all <= 3, "one may be about to go"
            await asyncio.sleep(1)
            assert smaller._origins._all == 2
            assert smaller.peers[larger.key].connection.dialled

    run_virtually(main())


def test_streams_that_say_nothing_keep_the_other_connection_no_longer_than_a_session_may_last() -> None:
    async def main() -> None:
        smaller, larger = _pair()
        async with smaller.running(), larger.running():
            await _called_by(larger, smaller)
            await smaller.wait_for(larger.key, 5)
            await (await larger.peers[smaller.key].places.open()).write(b"a")
            await _called_by(smaller, larger)
            await asyncio.sleep(SESSION_S - 10)
            assert smaller._origins._all == 2, "a session may still run"
            await asyncio.sleep(20)
            assert smaller._origins._all == 1
            assert smaller.peers[larger.key].connection.dialled

    run_virtually(main())
