"""Peers of peers: whoever is met is asked for others, and some of them are called until there are enough.

Only connections this node dialled count as enough: who dials us cannot thereby choose whom we hear (A-26).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import MeshError
from tirami.core.keys import PublicKey
from tirami.core.units import UnixMs
from tirami.net.address import PeerAddress
from tirami.net.addressbook import AddressBook, Trust, believed, seen
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.transport import Stream
from tirami.proto import Peers, PeersWanted

_log = structlog.get_logger()
ASKED: Final = 32
"""Addresses asked of one peer."""
ANSWER_S: Final = 5.0
DIALS: Final = 4
"""Calls at a time."""
LOOK_S: Final = 5.0
PAUSE_S: Final = 0.5
"""Between two rounds of calls."""
AGAIN_S: Final = 300.0
"""One peer is asked anew this often: who sells may be wanted even when there are enough."""
MOST_ASKS_S: Final = 5.0
"""A peer that asks more often than this is told nobody."""
ANEW_S: Final = 2 * MOST_ASKS_S
"""And this often where somebody is wanted of whom no address is known."""
ANEW: Final = 8
"""Peers asked then."""
ANSWERS: Final = registry(Peers)


class Exchange:
    """Keeps ``target`` connections of this node's own choice, out of an address book that peers fill.

    Args:
        now: wall time, as the ledger has it.
        target: 0 calls nobody.
    """

    def __init__(
        self,
        mesh: Mesh,
        book: AddressBook,
        clock: Clock,
        now: Callable[[], UnixMs],
        random: Random,
        target: int,
    ) -> None:
        self._mesh = mesh
        self._book = book
        self._clock = clock
        self._now = now
        self._random = random
        self._target = target
        self._to_ask: dict[bool, OrderedDict[PublicKey, None]] = {True: OrderedDict(), False: OrderedDict()}
        """Peers of this node's own choice, and others: a crowd that is slow to answer holds up its own kind only."""
        self._asked: dict[PublicKey, float] = {}
        """When each connected peer was asked last."""
        self._answered: dict[PublicKey, float] = {}
        self._wake_asking = asyncio.Event()
        self._wake_dialling = asyncio.Event()
        mesh.add(self)

    @property
    def enough(self) -> bool:
        return sum(peer.own_choice for peer in self._mesh.peers.values()) >= self._target

    async def met(self, peer: Peer) -> None:
        self._book.met(address_of(peer), self._now())
        self._ask(peer)

    def lost(self, peer: Peer) -> None:
        for waiting in self._to_ask.values():
            waiting.pop(peer.key, None)
        self._asked.pop(peer.key, None)
        self._answered.pop(peer.key, None)
        self._wake_dialling.set()

    def hear(self, source: str, addresses: Iterable[PeerAddress], trust: Trust) -> None:
        """Hints from elsewhere; see :meth:`AddressBook.hear`."""
        if self._book.hear(source, addresses, trust):
            self._wake_dialling.set()

    def ask_anew(self) -> None:
        """Somebody is wanted of whom no address is known: ask a few peers now whom they know, those not asked lately.

        A message names nobody who is wanted, so this finds it in a small network and perhaps in a large one.
        """
        due_s = self._clock.monotonic() - ANEW_S
        due = [peer for key, peer in self._mesh.peers.items() if self._asked.get(key, -ANEW_S) <= due_s]
        for peer in self._random.sample(due, min(ANEW, len(due))):
            self._ask(peer)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for waiting in self._to_ask.values():
                group.create_task(self._asking(waiting))
            group.create_task(self._asking_again())
            group.create_task(self._dialling())

    async def answer(self, peer: Peer, stream: Stream, wanted: PeersWanted) -> None:
        """A peer asks whom we know."""
        now = self._clock.monotonic()
        often = now - self._answered.get(peer.key, -MOST_ASKS_S) < MOST_ASKS_S
        self._answered[peer.key] = now
        trust = Trust.of(peer.connection.remote)
        some = () if often else self._book.tell(wanted.most, peer.key, self._now(), trust)
        await FrameWriter(stream).write(Peers(some))
        await stream.finish()

    # --- asking ------------------------------------------------------------------------------------------------

    def _ask(self, peer: Peer) -> None:
        self._asked[peer.key] = self._clock.monotonic()
        self._to_ask[peer.own_choice][peer.key] = None
        self._wake_asking.set()

    async def _asking(self, waiting: OrderedDict[PublicKey, None]) -> None:
        while True:
            while waiting:
                key, _ = waiting.popitem(last=False)
                peer = self._mesh.peers.get(key)
                if peer is not None:
                    await self._ask_one(peer)
            self._wake_asking.clear()
            await self._wake_asking.wait()

    async def _asking_again(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            if self._target and self._mesh.peers:
                self._ask(self._random.choice(list(self._mesh.peers.values())))

    async def _ask_one(self, peer: Peer) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                stream = await peer.connection.open()
                try:
                    await FrameWriter(stream).write(PeersWanted(ASKED))
                    answer = await FrameReader(stream, ANSWERS).read()
                finally:
                    await stream.reset()
        except (MeshError, TimeoutError) as error:
            _log.info("peers_not_told", peer=peer.key.hex(), reason=str(error))
            return
        assert isinstance(answer, Peers)
        self.hear(peer.key.hex(), seen(answer.peers[:ASKED]), Trust.of(peer.connection.remote))

    # --- dialling ----------------------------------------------------------------------------------------------

    async def _dialling(self) -> None:
        while True:
            self._wake_dialling.clear()
            look_s = LOOK_S if self._mesh.peers else PAUSE_S
            if not self.enough:
                now = self._clock.monotonic()
                chosen = self._book.candidates(DIALS, now, self._mesh.peers, self._mesh.full)
                await asyncio.gather(*(self._dial(address) for address in chosen))
                if chosen:
                    await asyncio.sleep(PAUSE_S)
                    continue
            try:
                async with asyncio.timeout(look_s):
                    await self._wake_dialling.wait()
            except TimeoutError:
                pass

    async def _dial(self, address: PeerAddress) -> None:
        try:
            await self._mesh.connect(address)
        except (MeshError, TimeoutError) as error:
            _log.debug("hint_in_vain", peer=address.key.hex(), reason=str(error))
            reason = str(error) or "no answer in time"
            self._book.failed(address.key, self._clock.monotonic(), reason, alone=not self._mesh.peers)


def address_of(peer: Peer) -> PeerAddress:
    """Where a connected peer is found: where it is now, then where it says it listens."""
    remote = peer.connection.remote
    listening = peer.hello.listening if peer.hello is not None else ()
    return PeerAddress(peer.key, believed((*((remote,) if remote else ()), *listening), Trust.of(remote)))
