"""Can it be reached? A peer asks about itself, and a node it has never spoken to calls it there and says.

The call is made from an endpoint of its own, with a fresh key and port: over the connection that is there already any
address would seem to work. Nobody can aim it at others: it goes to the asker's key, at the IP address the asker speaks
from, once a minute and peer, once a second in all. What comes out is kept in memory, bounded, as an observation.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import InvalidField, MeshError, RateLimited, RequestError
from tirami.core.keys import PublicKey
from tirami.core.units import UnixMs
from tirami.net.address import HostPort, PeerAddress
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.proto import PeerSeen, Probed, ProbeWanted, Refused

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


@dataclass(frozen=True, slots=True)
class Observation:
    """One peer called, or was called, and what came of it.

    Attributes:
        observer, observed: who called whom; one of them is this node.
        address: where; empty for what the observer saw it speak from.
        rtt_s: seconds until it answered; ``None`` when it did not.
    """

    observer: PublicKey
    observed: PublicKey
    address: str
    rtt_s: float | None
    at_ms: UnixMs


class Probes:
    """Both sides of it at one node.

    Args:
        call: see :data:`Call`; ``None`` calls nobody.
        now: wall time.
    """

    def __init__(self, mesh: Mesh, call: Call | None, clock: Clock, now: Callable[[], UnixMs], random: Random) -> None:
        self._mesh = mesh
        self._call = call
        self._clock = clock
        self._now = now
        self._random = random
        self._called: dict[PublicKey, float] = {}
        self._last = -ALL_S
        self._met = asyncio.Event()
        self.observations: deque[Observation] = deque(maxlen=KEPT)
        """The newest last."""
        mesh.add(self)

    @property
    def reachable(self) -> bool | None:
        """Whether the peer asked last could reach this node; ``None`` while nobody has said."""
        own = self.newest().get(self._mesh.key)
        return None if own is None else own.rtt_s is not None

    def newest(self) -> dict[PublicKey, Observation]:
        """Of each node that was called, what came of it last."""
        return {seen.observed: seen for seen in self.observations}

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
            pause = AGAIN_S
            with suppress(MeshError, TimeoutError):
                await self.ask(self._random.choice(peers))
                pause = EVERY_S
            await asyncio.sleep(pause)

    async def ask(self, peer: Peer) -> Observation:
        """Whether this peer can reach this node. Raises ``MeshError`` when it does not say, ``TimeoutError``."""
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
        rtt_s = answer.rtt_us / 1e6 if answer.reached else None
        return self._observed(peer.key, self._mesh.key, ", ".join(ways), rtt_s)

    async def answer(self, peer: Peer, stream: Stream, wanted: ProbeWanted) -> None:
        """A peer wants to know whether it can be reached."""
        writer = FrameWriter(stream)
        try:
            address = self._allowed(peer, wanted)
        except (RequestError, RateLimited) as error:
            await writer.write(Refused(error.code, error.message))
        else:
            took = await self._reached(address)
            self._observed(self._mesh.key, peer.key, ", ".join(address.direct), took)
            await writer.write(Probed(took is not None, round((took or 0) * 1e6)))
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

    def _observed(self, observer: PublicKey, observed: PublicKey, address: str, rtt_s: float | None) -> Observation:
        seen = Observation(observer, observed, address, rtt_s, self._now())
        self.observations.append(seen)
        _log.info("probed", observer=observer.hex(), observed=observed.hex(), reached=rtt_s is not None)
        return seen
