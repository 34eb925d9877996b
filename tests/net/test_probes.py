"""Probes over QUIC on loopback, and what nobody can have called."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.errors import MeshError, PeerUnreachable
from tirami.core.keys import SigningKey
from tirami.net import FrameReader, FrameWriter, PeerAddress, Stream, registry
from tirami.net.hello import Identity
from tirami.net.iroh import IrohEndpoint, stranger
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.probes import ANSWERS, KEPT, Call, Probes
from tirami.proto import NetworkFile, Parameters, PeerSeen, Probed, ProbeWanted, Refused

NETWORK = NetworkFile("tirami/1/network", "testnet", Parameters(witnesses=1, quorum=1))
CLOCK = SystemClock()


@dataclass
class Prober:
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
    mesh = Mesh(await IrohEndpoint.bind(SigningKey.generate()), Identity(NETWORK, "test"), CLOCK)
    node = Prober(mesh, Probes(mesh, call, CLOCK, CLOCK.now_ms, Random(1)))

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
        (seen,) = a.probes.observations
        assert (seen.observer, seen.observed) == (a.mesh.key, b.mesh.key) and seen.rtt_s is not None
        assert b.probes.observations[0].observer == a.mesh.key
        assert set(a.mesh.peers) == {b.mesh.key} and set(b.mesh.peers) == {a.mesh.key}, "the stranger stays none"


async def test_the_connection_that_is_there_does_not_make_an_address_good() -> None:
    async with prober(stranger("127.0.0.1:0")) as a, prober(None) as b:
        peer = await b.mesh.connect(a.mesh.address())
        await until(lambda: b.mesh.key in a.mesh.peers)
        remote = a.mesh.peers[b.mesh.key].connection.remote  # 127.0.0.1 or ::1, whichever answered first
        assert remote is not None
        answer = await ask(peer, PeerSeen(b.mesh.key, (f"{remote.rpartition(':')[0]}:9",)))
        assert isinstance(answer, Probed) and not answer.reached


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
        assert a.probes.observations[-1].rtt_s is None and a.probes.observations.maxlen == KEPT


async def test_who_calls_nobody_says_so() -> None:
    async with prober(None) as a, prober(None) as b:
        with pytest.raises(MeshError, match="calls nobody"):
            await b.probes.ask(await b.mesh.connect(a.mesh.address()))
        assert b.probes.reachable is None
