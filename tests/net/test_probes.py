"""Probes over QUIC on loopback, and what nobody can have called."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import MeshError, PeerUnreachable, WireError
from tirami.core.keys import SigningKey
from tirami.net import FrameReader, FrameWriter, PeerAddress, Stream, registry
from tirami.net.hello import Identity
from tirami.net.iroh import IrohEndpoint, stranger
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.probes import ANSWERS, KEPT, Call, Probes
from tirami.proto import (
    NetworkFile,
    Parameters,
    PeerSeen,
    Probe,
    Probed,
    ProbeWanted,
    Refused,
    SignedBody,
    decode,
    encode,
    sign,
)

NETWORK = NetworkFile("tirami/1/network", "testnet", Parameters(witnesses=1, quorum=1))
CLOCK = SystemClock()


@dataclass
class Prober:
    key: SigningKey
    mesh: Mesh
    probes: Probes


class Recorded:
    """Calls nobody and remembers who was to be called."""

    def __init__(self) -> None:
        self.called: list[PeerAddress] = []

    async def __call__(self, address: PeerAddress, timeout_s: float) -> float:
        self.called.append(address)
        raise PeerUnreachable("nobody is called here")


@asynccontextmanager
async def prober(call: Call | None) -> AsyncIterator[Prober]:
    key = SigningKey.generate()
    mesh = Mesh(await IrohEndpoint.bind(key), Identity(NETWORK, "test"), CLOCK)
    node = Prober(key, mesh, Probes(mesh, call, key, NETWORK.id, CLOCK, CLOCK.now_ms, Random(1)))

    async def asked(peer: Peer, stream: Stream) -> None:
        wanted = await FrameReader(stream, registry(ProbeWanted)).read()
        assert isinstance(wanted, ProbeWanted)
        await node.probes.answer(peer, stream, wanted)

    mesh.on_stream(asked)
    async with mesh.running():
        yield node


async def ask(peer: Peer, seen: PeerSeen) -> object:
    stream = await peer.connection.open()
    await FrameWriter(stream).write(ProbeWanted(seen))
    return await FrameReader(stream, ANSWERS).read()


async def test_a_node_learns_whether_a_stranger_reaches_it() -> None:
    async with prober(stranger("127.0.0.1:0")) as a, prober(None) as b:
        running = asyncio.create_task(b.probes.run())
        await b.mesh.connect(a.mesh.address())
        await until(lambda: b.probes.reachable is not None, 30)
        running.cancel()
        assert b.probes.reachable is True
        (seen,) = a.probes.made
        assert (seen.observer, seen.observed) == (a.mesh.key, b.mesh.key)
        assert seen.reached and 0 < seen.rtt_us < 4_000_000
        assert b.probes.book.newest == seen, "the very statement, which is signed"
        assert b.probes.newest() == {b.mesh.key: seen} == a.probes.newest()
        assert not a.probes.book.newest, "nobody called it"
        assert set(a.mesh.peers) == {b.mesh.key} and set(b.mesh.peers) == {a.mesh.key}, "the stranger stays none"


async def test_the_connection_that_is_there_does_not_make_an_address_good() -> None:
    async with prober(stranger("127.0.0.1:0")) as a, prober(None) as b:
        peer = await b.mesh.connect(a.mesh.address())
        await until(lambda: b.mesh.key in a.mesh.peers)
        remote = a.mesh.peers[b.mesh.key].connection.remote  # 127.0.0.1 or ::1, whichever answered first
        assert remote is not None
        way = f"{remote.rpartition(':')[0]}:9"
        answer = await ask(peer, PeerSeen(b.mesh.key, (way,)))
        assert isinstance(answer, Probed)
        probe = decode(Probe, answer.probe.body)
        assert (probe.reached, probe.rtt_us, probe.addresses) == (False, 0, (way,))


async def test_nobody_is_called_at_anothers_bidding() -> None:
    call = Recorded()
    async with prober(call) as a, prober(None) as b:
        peer = await b.mesh.connect(a.mesh.address())
        await until(lambda: b.mesh.key in a.mesh.peers)
        victim = SigningKey.generate().public_key
        refused = await ask(peer, PeerSeen(victim, ("127.0.0.1:53",)))
        assert isinstance(refused, Refused) and not call.called, "another key"
        await ask(peer, PeerSeen(b.mesh.key, ("8.8.8.8:53", "node.example:1")))
        assert [address.direct for address in call.called] == [(a.mesh.peers[b.mesh.key].connection.remote,)]
        refused = await ask(peer, PeerSeen(b.mesh.key, ()))
        assert isinstance(refused, Refused) and len(call.called) == 1, "too often"
        assert not a.probes.made[-1].reached and a.probes.made.maxlen == KEPT


async def test_who_calls_nobody_says_so() -> None:
    async with prober(None) as a, prober(None) as b:
        with pytest.raises(MeshError, match="calls nobody"):
            await b.probes.ask(await b.mesh.connect(a.mesh.address()))
        assert b.probes.reachable is None


async def test_a_peer_that_signs_nothing_good_has_said_nothing() -> None:
    """It answers with a statement under another key's name, then with one that somebody else signed."""
    async with prober(Recorded()) as a, prober(None) as b:
        peer = await b.mesh.connect(a.mesh.address())
        other, heard = SigningKey.generate(), asyncio.Event()
        for observer, signer in ((other, other), (a.key, other)):
            said = Probe(NETWORK.id, observer.public_key, b.mesh.key, ("127.0.0.1:1",), True, 1, CLOCK.now_ms())
            lie = Probed(SignedBody(encode(said), sign(said, signer)))

            async def lying(peer: Peer, stream: Stream, wanted: ProbeWanted, lie: Probed = lie) -> None:
                await FrameWriter(stream).write(lie)
                await stream.finish()
                heard.set()

            a.probes.answer = lying  # type: ignore[method-assign]
            with pytest.raises(WireError, match="a probe"):
                await b.probes.ask(peer)
        assert b.probes.reachable is None and not len(b.probes.book)
        heard.clear()
        running = asyncio.create_task(b.probes.run())
        await heard.wait()
        await asyncio.sleep(0.05)
        assert not running.done() and not len(b.probes.book)
        running.cancel()
