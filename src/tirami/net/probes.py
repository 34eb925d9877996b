"""Can it be reached? A peer asks about itself, and a node it has never spoken to calls it there and says.

The call is made from an endpoint of its own, with a fresh key and port: over the connection that is there already any
address would seem to work. Nobody can aim it at others: it goes to the asker's key, at the IP address the asker speaks
from, once a minute and peer, once a second in all. Who called signs what came of it. Who asked checks that, and keeps
it (``probebook``); who called remembers it in memory. Both are bounded.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import InvalidField, MeshError, RateLimited, RequestError, VerificationError, WireError
from tirami.core.keys import PublicKey, Signer
from tirami.core.units import UnixMs
from tirami.net.address import HostPort, PeerAddress
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.probebook import ProbeBook
from tirami.net.transport import Stream
from tirami.proto import PeerSeen, Probe, Probed, ProbeWanted, Refused, SignedBody, signed

_log = structlog.get_logger()
CALL_S: Final = 4.0
ANSWER_S: Final = 10.0
PEER_S: Final = 60.0
"""One peer is called this often at most."""
ALL_S: Final = 1.0
EVERY_S: Final = 600.0
"""This node asks about itself this often,"""
AGAIN_S: Final = 60.0
"""or so soon after nobody said."""
WAYS: Final = 2
"""Ways one question names: it has at most 256 bytes."""
KEPT: Final = 1_024
ANSWERS: Final = registry(Probed, Refused)

Call = Callable[[PeerAddress, float], Awaitable[float]]
"""Reach an address as a stranger, within so many seconds; how many it took. Raises ``MeshError``."""


class Probes:
    """Both sides of it at one node.

    Args:
        call: see :data:`Call`; ``None`` calls nobody.
        node: the key of ``mesh``.
        network: id of the network.
        now: wall time.
    """

    def __init__(
        self,
        mesh: Mesh,
        call: Call | None,
        node: Signer,
        network: str,
        clock: Clock,
        now: Callable[[], UnixMs],
        random: Random,
    ) -> None:
        self._mesh = mesh
        self._call = call
        self._node = node
        self._network = network
        self._clock = clock
        self._now = now
        self._random = random
        self._called: dict[PublicKey, float] = {}
        self._last = -ALL_S
        self._met = asyncio.Event()
        self.book = ProbeBook(network, mesh.key)
        """What peers found of this node."""
        self.made: deque[Probe] = deque(maxlen=KEPT)
        """What this node found of peers, the newest last."""
        mesh.add(self)

    @property
    def reachable(self) -> bool | None:
        """Whether the peer asked last could reach this node; ``None`` while nobody has said."""
        own = self.book.newest
        return None if own is None else own.reached

    def newest(self) -> dict[PublicKey, Probe]:
        """Of each node that was called, what came of it last."""
        newest = {PublicKey(probe.observed): probe for probe in self.made}
        if (own := self.book.newest) is not None:
            newest[self._mesh.key] = own
        return newest

    async def met(self, peer: Peer) -> None:
        self._met.set()

    def lost(self, peer: Peer) -> None:
        """Its last call is remembered until it is old: coming again is no way to more."""

    async def run(self) -> None:
        """Until cancelled: now and then some peer looks whether this node can be reached."""
        while True:
            peers = list(self._mesh.peers.values())
            if not peers:
                self._met.clear()
                await self._met.wait()
                continue
            peer, pause = self._random.choice(peers), EVERY_S
            try:
                await self.ask(peer)
            except (MeshError, TimeoutError) as error:
                _log.debug("probe_in_vain", peer=peer.key.hex(), reason=str(error) or "no answer in time")
                pause = AGAIN_S
            await asyncio.sleep(pause)

    async def ask(self, peer: Peer) -> Probe:
        """Whether this peer can reach this node.

        Raises ``MeshError`` when it does not say, or something that is not about that; ``TimeoutError``.
        """
        ways = tuple(way for way in self._mesh.address().direct if len(way) <= 64)[:WAYS]
        async with asyncio.timeout(ANSWER_S):
            stream = await peer.connection.open()
            try:
                await FrameWriter(stream).write(ProbeWanted(PeerSeen(self._mesh.key, ways)))
                answer = await FrameReader(stream, ANSWERS).read()
            finally:
                await stream.reset()
        if not isinstance(answer, Probed):
            raise MeshError(answer.message if isinstance(answer, Refused) else "no answer to a question")
        try:
            probe = self.book.take(answer.probe, peer.key, ways, self._now())
        except VerificationError as error:
            raise WireError(error.message) from error
        _told(probe)
        return probe

    async def answer(self, peer: Peer, stream: Stream, wanted: ProbeWanted) -> None:
        """A peer wants to know whether it can be reached."""
        writer = FrameWriter(stream)
        try:
            address = self._allowed(peer, wanted)
        except (RequestError, RateLimited) as error:
            await writer.write(Refused(error.code, error.message))
        else:
            probe = self._made(address, await self._reached(address))
            stated = signed(probe, self._node)
            await writer.write(Probed(SignedBody(stated.body, stated.signature)))
        await stream.finish()

    async def _reached(self, address: PeerAddress) -> float | None:
        """Seconds; ``None`` when nobody answered."""
        assert self._call is not None
        with suppress(MeshError, TimeoutError):
            return await self._call(address, CALL_S)
        return None

    def _allowed(self, peer: Peer, wanted: ProbeWanted) -> PeerAddress:
        """Where it may be called. Raises ``InvalidField``, ``RateLimited``."""
        if self._call is None:
            raise InvalidField("this node calls nobody", param="peer")
        if wanted.peer.key != peer.key:
            raise InvalidField("a peer asks about itself only", param="peer")
        remote = peer.connection.remote
        if remote is None:
            raise InvalidField("over a relay nobody knows where a peer is", param="peer")
        host = HostPort.parse(remote).host
        named = []
        for way in wanted.peer.addresses:
            with suppress(InvalidField):
                named.append(HostPort.parse(way))
        ways = [str(way) for way in named if way.host == host][:WAYS] or [remote]
        now = self._clock.monotonic()
        self._called = {key: at for key, at in self._called.items() if now - at < PEER_S}
        if peer.key in self._called or now - self._last < ALL_S:
            raise RateLimited("asked too often", retry_after=round(PEER_S))
        self._called[peer.key] = self._last = now
        return PeerAddress(peer.key, tuple(ways))

    def _made(self, address: PeerAddress, rtt_s: float | None) -> Probe:
        probe = Probe(
            network=self._network,
            observer=self._mesh.key,
            observed=address.key,
            addresses=address.direct,
            reached=rtt_s is not None,
            rtt_us=round((rtt_s or 0) * 1e6),
            at_ms=self._now(),
        )
        self.made.append(probe)
        _told(probe)
        return probe


def _told(probe: Probe) -> None:
    _log.info("probed", observer=probe.observer.hex(), observed=probe.observed.hex(), reached=probe.reached)
