"""Calls for a purchase: a provider that is not connected is called when it is wanted, and let go when it is idle.

What is known of it is a signal and an address by hearsay, so a flood of made-up ones must cost little: so many calls a
minute, in all and to one neighbourhood; so many such connections at a time; and who does not answer is left alone for
as long as the address book says. They are no connections of this node's own choice (A-26): whoever sells cheaply could
choose whom it hears.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import MeshError, PeerUnreachable
from tirami.core.keys import PublicKey
from tirami.net.addressbook import AddressBook, Known
from tirami.net.budget import Bucket
from tirami.net.mesh import DIAL_S, Mesh
from tirami.net.origins import neighbourhood
from tirami.net.peer import Peer

T = TypeVar("T")
_log = structlog.get_logger()
MOST: Final = 16
"""Connections made for purchases, and calls under way, at a time."""
CALLS: Final = (0.2, 6.0)
"""Calls a second and at once: 12 a minute."""
WISHES: Final = (0.05, 2.0)
"""Those of them that nobody waits for, 3 a minute: the others are left to requests that have no other way."""
NEAR: Final = (0.2, 8.0)
"""Addresses called in one neighbourhood, a second and at once; a node may have 8."""
NEIGHBOURHOODS: Final = 1_024
"""Those called last, more than can be within the time that fills a bucket again."""
IDLE_S: Final = 120.0
"""Seconds without any purchase after which such a connection is let go; more than the fetching of a tokenizer takes."""
LOOK_S: Final = 5.0


class Dialler:
    """Calls providers out of the address book.

    Args:
        may: whether anybody is called whom the owner has not named.
        ask: has peers asked whom they know; called as often as somebody is wanted.
    """

    def __init__(
        self, mesh: Mesh, book: AddressBook, clock: Clock, *, may: bool, ask: Callable[[], None] = lambda: None
    ) -> None:
        self._mesh = mesh
        self._book = book
        self._clock = clock
        self._may = may
        self._ask = ask
        self._turns: WeakValueDictionary[PublicKey, asyncio.Lock] = WeakValueDictionary()
        """One a key: who waits for another's call has what came of it, and makes none."""
        self._calling = 0
        self._used: dict[Peer, float] = {}
        """Connections made for purchases, and when each was wanted last."""
        self._idle: set[Peer] = set()
        """Those that nothing was bought of for long, and that still ask something here."""
        self._calls = Bucket(*CALLS, clock.monotonic())
        self._wishes = Bucket(*WISHES, clock.monotonic())
        self._near: OrderedDict[bytes, Bucket] = OrderedDict()
        self._wished: PublicKey | None = None
        self._wake = asyncio.Event()

    def obstacle(self, key: PublicKey) -> str | None:
        """Why one that is not connected is not called now; ``None`` where it would be."""
        known = self._book.get(key)
        if key in self._mesh.kept:
            if (missed := self._mesh.missed.get(key)) is None:
                return "not connected: it is called until it answers"
            return f"not connected: dial failed, {_again(missed.again_s - self._clock.monotonic())}"
        if not self._may:
            return "not connected: nobody is called who was not named (mesh.peers = 0)"
        if known is None or not self._located(key):
            return "not connected: no address of it is known"
        if (left_s := known.due_s - self._clock.monotonic()) > 0:
            return f"not connected: dial failed, {_again(left_s)}"
        if len(self._used) + self._calling >= MOST:
            return f"not connected: {MOST} others were called for purchases"
        if (full := self._mesh.full(None)) is not None:
            return f"not connected: {full}"
        if not self._ways(known) and not known.address.relay:
            return "not connected: its neighbourhood has all the connections there may be"
        return None

    def seek(self, wanted: Iterable[PublicKey]) -> None:
        """Have peers asked for addresses, if of one of these none is known."""
        if self._may and not all(map(self._located, wanted)):
            self._ask()

    def in_turn(self, found: Iterable[T], key: Callable[[T], PublicKey]) -> Iterator[T]:
        """In which order to call; see :meth:`AddressBook.in_turn`."""
        return self._book.in_turn(found, key)

    async def reach(self, key: PublicKey, patience_s: float) -> Peer:
        """The peer, called if it is not connected; it stays for ``IDLE_S`` at least. Raises ``PeerUnreachable``."""
        peer = self._mesh.peers.get(key)
        if peer is None:
            async with self._turns.setdefault(key, asyncio.Lock()):
                peer = self._mesh.peers.get(key) or await self._call(key, min(patience_s, DIAL_S))
        if peer in self._used or peer in self._idle:
            self._idle.discard(peer)
            self._used[peer] = self._clock.monotonic()
        return peer

    def wish(self, key: PublicKey) -> None:
        """Have this one called, and nobody wait for it; of several wishes the last counts, a few a minute."""
        self._wished = key
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled: call who is wished for, and let go of whom nothing was bought from for long."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            self._let_go()
            wished, self._wished = self._wished, None
            if wished is not None and self._wishes.allows(1, self._clock.monotonic()):
                with suppress(PeerUnreachable):
                    await self.reach(wished, DIAL_S)

    async def _call(self, key: PublicKey, patience_s: float) -> Peer:
        """Raises ``PeerUnreachable``."""
        known = self._book.get(key)
        if (obstacle := self.obstacle(key)) is not None or known is None:
            raise PeerUnreachable(f"the provider is {obstacle}")
        now = self._clock.monotonic()
        if not self._calls.allows(1, now):
            raise PeerUnreachable("the provider is not connected, and too many were called of late", retry_after=5)
        ways = tuple(way for way in self._ways(known) if self._spares(neighbourhood(way), now))
        if not ways and not known.address.relay:
            raise PeerUnreachable("the provider is not connected, and its neighbourhood was called too often of late")
        self._calling += 1
        try:
            async with asyncio.timeout(patience_s):
                peer = await self._mesh.connect(replace(known.address, direct=ways), to_buy=True)
        except (MeshError, TimeoutError) as error:
            reason = str(error) or f"no answer within {patience_s:g} s"
            self._book.failed(key, self._clock.monotonic(), reason, alone=not self._mesh.peers)
            _log.info("provider_unreachable", peer=key.hex(), reason=reason)
            raise PeerUnreachable(f"the provider was not reached: {reason}") from error
        finally:
            self._calling -= 1
        if peer.called_to_buy:  # and it was not connected otherwise meanwhile
            self._used[peer] = self._clock.monotonic()
        return peer

    def _located(self, key: PublicKey) -> bool:
        """Whether it is connected, or an address of it is known."""
        known = self._book.get(key)
        return key in self._mesh.peers or (known is not None and bool(known.address.direct or known.address.relay))

    def _ways(self, known: Known) -> tuple[str, ...]:
        """Where there is place for one more."""
        return tuple(way for way in known.address.direct if self._mesh.full(way) is None)

    def _spares(self, near: bytes | None, now_s: float) -> bool:
        """Whether one more address of this neighbourhood may be called; it counts then."""
        if near is None:
            return True
        bucket = self._near.setdefault(near, Bucket(*NEAR, now_s))
        self._near.move_to_end(near)
        if len(self._near) > NEIGHBOURHOODS:
            self._near.popitem(last=False)
        return bucket.allows(1, now_s)

    def _let_go(self) -> None:
        """What a peer asks here keeps no place, or a few strangers could keep all of them; it is only not cut off."""
        now = self._clock.monotonic()
        for peer, used_s in list(self._used.items()):
            if self._mesh.peers.get(peer.key) is not peer or peer.key in self._mesh.kept:
                del self._used[peer]  # gone, or one of those that stay
            elif peer.places.taken:
                self._used[peer] = now
            elif now - used_s >= IDLE_S:
                del self._used[peer]
                self._idle.add(peer)
        for peer in [peer for peer in self._idle if not peer.busy or peer.gone.is_set()]:
            self._idle.discard(peer)
            peer.release()


def _again(left_s: float) -> str:
    return f"again in {math.ceil(left_s)} s" if left_s > 0 else "and it is called now"
