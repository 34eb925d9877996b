"""The node's place among others: who is connected, and who hears what.

Every connection has one owner task. Of two connections between the same two nodes the one that the smaller key dialled
stays, so that both sides keep the same; the other ends when what had begun on it is over.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from functools import partial
from random import Random, SystemRandom
from types import MappingProxyType
from typing import Final, Protocol
from weakref import WeakValueDictionary

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import (
    ConnectionLost,
    JournalCorrupt,
    MeshError,
    StorageUnavailable,
    VerificationError,
    WireError,
)
from tirami.core.keys import PublicKey
from tirami.core.units import UnixMs
from tirami.net.address import PeerAddress
from tirami.net.burden import Burden
from tirami.net.hello import Identity, Remembered
from tirami.net.kept import Kept, Missed
from tirami.net.origins import Origins
from tirami.net.peer import Peer
from tirami.net.transport import Connection, Endpoint, Stream
from tirami.proto import Leaving, Message

_log = structlog.get_logger()
DIAL_S: Final = 5.0
RETIRED_S: Final = 30 * 60.0
"""Until a connection that another has replaced ends in any case: no session that had begun on it takes longer."""
MAX_PEERS: Final = 1_000
LAST_WORDS_S: Final = 0.3
"""Seconds between the end of the last conversation and the word that this node leaves, which would overtake it."""
FAREWELL_S: Final = 1.0
"""Seconds that a peer has to hear it."""
FAN_OUT: Final = 6
"""So many peers hear of something from one node, where all hear of it in the end."""


class Part(Protocol):
    """Something that talks to peers: gossip, sessions, signals."""

    async def met(self, peer: Peer) -> None:
        """A peer has been introduced."""

    def lost(self, peer: Peer) -> None:
        """No connection to it is left."""


class Mesh:
    """Use as an async context manager: entering listens, leaving closes every connection and ends every task.

    Args:
        seen: what is known under a key, for the hello (B9).
        refuse: why a key is not welcome, or ``None``.
        random: whom to tell, where not all are told; a seeded one makes a simulation repeatable.
        now: this node's time, as peers are told it; the clock's by default.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        clock: Clock,
        *,
        seen: Callable[[PublicKey], Remembered] = lambda _: Remembered(),
        refuse: Callable[[PublicKey], str | None] = lambda _: None,
        random: Random | None = None,
        now: Callable[[], UnixMs] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._clock = clock
        self._now = now or clock.now_ms
        self._seen = seen
        self._refuse = refuse
        self._random = random or SystemRandom()
        self._peers: dict[PublicKey, Peer] = {}
        self._retiring: dict[PublicKey, Peer] = {}
        """Another connection to the same node has taken its place, and something still runs on it; one a key."""
        self._origins = Origins(MAX_PEERS)
        self._burden = Burden()
        self._on_message: dict[type[Message], Callable[[Peer, Message], Awaitable[None]]] = {}
        self._on_stream: Callable[[Peer, Stream], Awaitable[None]] | None = None
        self._parts: list[Part] = []
        self._group: asyncio.TaskGroup | None = None
        self._kept = Kept(self.connect, self._lost, clock, self._random)
        self._dials: WeakValueDictionary[PublicKey, asyncio.Lock] = WeakValueDictionary()
        """One a key: of two who call the same peer, the second finds it connected."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._leaving = False

    @property
    def key(self) -> PublicKey:
        return self._endpoint.key

    @property
    def network(self) -> str:
        """Id of the network all of this mesh belong to."""
        return self._identity.network.id

    @property
    def peers(self) -> Mapping[PublicKey, Peer]:
        """Connected and introduced."""
        return MappingProxyType(self._peers)

    @property
    def kept(self) -> Mapping[PublicKey, PeerAddress]:
        """Those that are dialled again whenever they are lost."""
        return self._kept.addresses

    @property
    def missed(self) -> Mapping[PublicKey, Missed]:
        """The last call in vain of each of those kept that did not answer since."""
        return self._kept.missed

    def address(self) -> PeerAddress:
        return self._endpoint.address()

    # --- who listens -------------------------------------------------------------------------------------------

    def on_message(self, kind: type[Message], heard: Callable[[Peer, Message], Awaitable[None]]) -> None:
        """Have control messages of one kind handled by ``heard``."""
        self._on_message[kind] = heard

    def on_stream(self, asked: Callable[[Peer, Stream], Awaitable[None]]) -> None:
        """Have every stream a peer opens handled by ``asked``; it ends the stream."""
        self._on_stream = asked

    def add(self, part: Part) -> None:
        self._parts.append(part)

    # --- who is told -------------------------------------------------------------------------------------------

    def some(self, most: int, but: Collection[bytes] = ()) -> list[Peer]:
        """At most so many peers at random, none of the keys in ``but``."""
        others = [peer for key, peer in self._peers.items() if key not in but]
        return self._random.sample(others, min(most, len(others)))

    def pass_on(self, message: Message, but: Collection[bytes] = (), most: int = MAX_PEERS) -> None:
        """Queue a message for all peers, or for some, but never for the keys in ``but``: whoever has it already."""
        for peer in self.some(most, but):
            peer.send(message)

    # --- life ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Mesh"]:
        """Listen until left."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                tasks = [group.create_task(self._accept(), name="mesh-accept")]
                try:
                    yield self
                finally:
                    await self._endpoint.close()  # which tells every peer
                    for task in tasks:
                        task.cancel()
                    for task in list(self._tasks):
                        task.cancel()
        finally:
            self._group = None

    async def leave(self, reason: str) -> None:
        """Tell every peer, and wait until each has heard it, or ``FAREWELL_S``. Nobody is a peer any more then."""
        self._leaving = True
        self._kept.leave()
        await asyncio.sleep(LAST_WORDS_S if self._peers else 0)
        going = [asyncio.create_task(peer.gone.wait()) for peer in self._peers.values()]
        for peer in self._peers.values():
            peer.send(Leaving(reason))
        if going:
            _, deaf = await asyncio.wait(going, timeout=FAREWELL_S)
            for task in deaf:
                task.cancel()

    def keep(self, address: PeerAddress) -> None:
        """Be connected to this peer from now on: dial, and dial again when it is lost."""
        if address.key != self.key and self._kept.add(address):
            self._spawn(partial(self._kept.stay, address), f"dial-{address.key.hex()[:8]}")

    def full(self, way: str | None) -> str | None:
        """Why there is no place for one more from ``host:port``, ``None`` for a relay; ``None`` where there is."""
        return self._origins.full(way)

    async def connect(self, address: PeerAddress, *, to_buy: bool = False) -> Peer:
        """The peer at this address, connected now if it is not yet: one call at a time. Raises ``MeshError``.

        Who is kept is connected however many there are. With ``to_buy`` a connection made now is for a purchase.
        """
        async with self._dials.setdefault(address.key, asyncio.Lock()):
            known = self._peers.get(address.key)
            if known is not None:
                return known
            connection = await self._endpoint.connect(address, DIAL_S)
            if address.key not in self.kept and (full := self._origins.full(connection.remote)) is not None:
                connection.close(full)
                raise MeshError(full)
            return await self._introduce(connection, to_buy=to_buy)

    def shut(self, key: PublicKey, reason: str) -> None:
        """End every connection with this key, also one that only drains; whether it may come again ``refuse`` says."""
        for peer in (self._peers.get(key), self._retiring.get(key)):
            if peer is not None:
                peer.close(reason)

    async def wait_for(self, key: PublicKey, timeout_s: float) -> Peer:
        """Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            while key not in self._peers:
                self._changed.clear()
                await self._changed.wait()
        return self._peers[key]

    # --- connections -----------------------------------------------------------------------------------------

    async def _accept(self) -> None:
        while (connection := await self._endpoint.accept()) is not None:
            self._spawn(partial(self._admit, connection), "mesh-admit")

    async def _admit(self, connection: Connection) -> None:
        if (full := self._origins.full(connection.remote)) is not None:  # here: its place is taken before any other's
            connection.close(full)
            return
        try:
            await self._introduce(connection)
        except ConnectionLost as error:  # it left again, as who only looks whether this node can be reached
            _log.debug("peer_left", peer=connection.peer.hex(), reason=error.message)
            connection.close(error.message)
        except (MeshError, TimeoutError) as error:
            _log.info("peer_refused", peer=connection.peer.hex(), reason=str(error))
            connection.close(str(error))

    async def _introduce(self, connection: Connection, *, to_buy: bool = False) -> Peer:
        self._check_welcome(connection)
        own = self._identity.hello(self._seen(connection.peer))
        peer = Peer(connection, own, self._clock, self._burden, self._now)
        peer.called_to_buy = to_buy
        self._origins.enter(peer.origin)
        try:
            await peer.introduced()
            self._check_welcome(connection)  # still: that may have taken seconds
        except BaseException:
            self._origins.leave(peer.origin)
            peer.close("not introduced")
            raise
        self._seat(peer)
        self._spawn(partial(self._own, peer), f"peer-{peer.key.hex()[:8]}")
        return self._peers[peer.key]

    def _check_welcome(self, connection: Connection) -> None:
        """Raises ``MeshError``."""
        reason = "this node stops" if self._leaving else self._refuse(connection.peer)
        if reason is not None:
            connection.close(reason)
            raise MeshError(reason)

    def _seat(self, peer: Peer) -> None:
        """Of two connections both sides keep the one that the smaller key dialled; of two such, the later."""
        former = self._peers.get(peer.key)
        self._kept.met(peer.key)
        if former is None:  # else it was connected: which connection stays is between the two nodes
            _log.info("peer_connected", peer=peer.key.hex(), remote=peer.connection.remote)
        if former is not None and former.connection.dialled == peer.connection.dialled:
            former.close("connected again")  # whoever dials again has lost it
            former = None
        if former is not None and peer.connection.dialled != (self.key < peer.key):
            self._retire(peer)
            return
        self._peers[peer.key] = peer
        self._changed.set()
        if former is not None:
            self._retire(former)

    def _retire(self, peer: Peer) -> None:
        if (earlier := self._retiring.get(peer.key)) is not None:
            earlier.close("connected again")
        self._retiring[peer.key] = peer
        self._spawn(partial(self._give_up, peer), f"drain-{peer.key.hex()[:8]}")

    async def _give_up(self, peer: Peer) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETIRED_S):
                await peer.drained()
        peer.close("connected twice")

    async def _own(self, peer: Peer) -> None:
        try:
            if self._peers.get(peer.key) is peer:
                for part in self._parts:
                    await part.met(peer)
            reason = await peer.run(self._heard, self._asked)
            lost = self._peers.get(peer.key) is peer
            (_log.info if lost else _log.debug)("peer_lost", peer=peer.key.hex(), reason=reason)
        finally:
            peer.close("done")
            self._origins.leave(peer.origin)
            if self._peers.get(peer.key) is peer:  # and not replaced by another connection to the same node
                del self._peers[peer.key]
                for part in self._parts:
                    part.lost(peer)
            if self._retiring.get(peer.key) is peer:
                del self._retiring[peer.key]
            peer.gone.set()
            self._changed.set()

    async def _heard(self, peer: Peer, message: Message) -> None:
        heard = self._on_message.get(type(message))
        if heard is None:
            return
        try:
            await heard(peer, message)
        except VerificationError as error:
            raise WireError(f"a {type(message).__name__} that holds none: {error.message}") from error
        except (StorageUnavailable, JournalCorrupt) as error:  # this node's trouble, not the peer's
            _log.warning("message_dropped", peer=peer.key.hex(), message=type(message).__name__, reason=error.message)

    async def _asked(self, peer: Peer, stream: Stream) -> None:
        if self._on_stream is None:
            await stream.reset()
        else:
            await self._on_stream(peer, stream)

    async def _lost(self, key: PublicKey) -> None:
        """Until there is none, on whichever connection: another may take the place of the first."""
        while key in self._peers:
            self._changed.clear()
            await self._changed.wait()

    def _spawn(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
        assert self._group is not None, "the mesh is not running"
        context = Context()  # whoever asked for it, a request for instance, may end long before
        task = self._group.create_task(_guarded(work), name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _guarded(work: Callable[[], Coroutine[object, object, None]]) -> None:
    """A peer's owner that fails is logged; it takes nobody else with it."""
    try:
        await work()
    except Exception:
        _log.exception("mesh_task_failed")
