"""Who else is there: nodes this one met or heard of, where they may be found, and how often they did not answer.

An address by hearsay is a hint and no more: whoever answers there must prove the key. So the worst a liar can do is to
have strangers dialled in vain, and that is bounded: so many addresses of one source, so many in all, and whoever does
not answer is asked ever more seldom and then forgotten. Only who was met is told of, so a lie travels one hop.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import ip_address
from random import Random
from typing import Final, Self, TypeVar

from tirami.core.errors import InvalidField
from tirami.core.keys import PublicKey
from tirami.core.units import DAY_MS, UnixMs
from tirami.net.address import HostPort, PeerAddress
from tirami.net.origins import neighbourhood
from tirami.proto import PeerSeen

T = TypeVar("T")
MAX_KNOWN: Final = 1_024
MAX_OF_SOURCE: Final = 64
"""Nodes one source may have us remember that nobody here ever met."""
MAX_WAYS: Final = 8
FIRM: Final = MAX_WAYS // 2
"""Of these, that nobody else's word displaces."""
HEARD_TRIES: Final = 3
MET_TRIES: Final = 10
FIRST_PAUSE_S: Final = 15.0
LONGEST_PAUSE_S: Final = 3_600.0
ALONE_PAUSE_S: Final = 2.0
"""Between two calls of a node that was met, while nobody is connected: it may be this node whose link is down."""
MET: Final = "met"
"""The source that all those who were met are together: they are many and known to be good."""
TOLD_MS: Final = 7 * DAY_MS
"""Who was not met for longer is told to nobody."""


class Trust(Enum):
    """How far a hint is believed."""

    FAR = "far"
    """Told from somewhere: public IP addresses only."""
    NEAR = "near"
    """Told from this machine or a private network: private addresses mean something here, too."""
    OWNER = "owner"
    """Named by whoever runs this node: names are looked up, relays used."""

    @classmethod
    def of(cls, remote: str | None) -> Self:
        """In what a peer at this address says; ``None`` is a relay."""
        return cls("near" if remote is not None and neighbourhood(remote) is None else "far")


@dataclass(slots=True)
class Known:
    """One node.

    Attributes:
        source: who spoke of it first; itself, once it was met; of a pinned one who vouched for it.
        met_ms: when it last proved its key here, Unix milliseconds; 0 for never.
        pinned: never forgotten: its owner and ours know each other.
        failures: calls in vain since it last answered.
        failure: why the last call was in vain; empty for one that was not.
        due_s: monotonic seconds before which it is not called again.
    """

    address: PeerAddress
    source: str
    met_ms: UnixMs = UnixMs(0)
    pinned: bool = False
    failures: int = 0
    failure: str = ""
    due_s: float = 0.0

    @property
    def group(self) -> str:
        """With whom it takes turns."""
        return MET if self.met_ms else self.source

    @property
    def neighbourhood(self) -> bytes | None:
        """Of where it was met, for that comes first; ``None`` for a private one."""
        return neighbourhood(self.address.direct[0]) if self.address.direct else None

    @property
    def hopeless(self) -> bool:
        return not self.pinned and self.failures >= (MET_TRIES if self.met_ms else HEARD_TRIES)


class AddressBook:
    """What one node knows of others. Pure: time and chance are handed in.

    What is on disk is read and written in another thread, while others look at this and change it.

    Attributes:
        changes: rises with whatever is worth writing to disk.
    """

    def __init__(self, own: PublicKey, random: Random) -> None:
        self._own = own
        self._random = random
        self._known: dict[PublicKey, Known] = {}
        self.changes = 0

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._known)

    def get(self, key: PublicKey) -> Known | None:
        return self._known.get(key)

    # --- what is learned ---------------------------------------------------------------------------------------

    def hear(self, source: str, addresses: Iterable[PeerAddress], trust: Trust) -> int:
        """Hints from one source; how many were news."""
        told = Counter(known.source for known in self._known.values() if not known.met_ms)[source]
        news = 0
        for address in addresses:
            hint = address
            if trust is not Trust.OWNER:
                hint = PeerAddress(address.key, believed(address.direct, trust))
            known = self._known.get(address.key)
            if address.key == self._own or not (hint.direct or hint.relay):
                continue
            if known is not None:
                if not known.met_ms or known.failures:  # what works is not talked away
                    own = trust is Trust.OWNER or source == known.source
                    firm = () if own else (replace(known.address, direct=known.address.direct[:FIRM]),)
                    known.address = _joined(*firm, hint, known.address)
            elif told < MAX_OF_SOURCE and self._make_room(for_met=False):
                self._known[address.key] = Known(hint, source)
                told, news = told + 1, news + 1
        self.changes += bool(news)
        return news

    def met(self, address: PeerAddress, now_ms: UnixMs) -> None:
        """A peer proved its key, and says it can be found there."""
        known = self._known.get(address.key)
        if known is None:
            if not self._make_room(for_met=True):
                return
            known = self._known[address.key] = Known(address, address.key.hex())
        if address.direct:
            known.address = address
        if not known.pinned:
            known.source = address.key.hex()
        known.met_ms, known.failures, known.failure, known.due_s = now_ms, 0, "", 0.0
        self.changes += 1

    def pin(self, address: PeerAddress, source: str) -> None:
        """Never forget this one: somebody vouched for it."""
        known = self._known.setdefault(address.key, Known(address, source))
        known.address, known.source, known.pinned = _joined(address, known.address), source, True
        self.changes += 1

    def failed(self, key: PublicKey, now_s: float, reason: str = "", *, alone: bool = False) -> None:
        """It was called and did not answer, or somebody else did.

        Args:
            reason: for people.
            alone: nobody is connected here; that says nothing against one that was met.
        """
        known = self._known.get(key)
        if known is None:
            return
        known.failure = reason
        if alone and known.met_ms:
            known.due_s = now_s + ALONE_PAUSE_S
            return
        known.failures += 1
        known.due_s = now_s + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(known.failures, 16))
        if known.hopeless:
            del self._known[key]
            self.changes += 1

    # --- what it is good for -----------------------------------------------------------------------------------

    def pinned(self, source: str) -> list[PeerAddress]:
        """Those this source vouched for."""
        return [known.address for known in self._known.values() if known.pinned and known.source == source]

    def candidates(
        self, count: int, now_s: float, connected: Collection[PublicKey], full: Callable[[str], str | None]
    ) -> list[PeerAddress]:
        """Whom to call next: of every source about as many, however much one of them talks.

        Args:
            full: why there is no place for one more from ``host:port``; ``None`` where there is.
        """
        sources: dict[str, list[PeerAddress]] = {}
        for key, known in self._known.items():
            if key in connected or known.due_s > now_s:
                continue
            ways = tuple(way for way in known.address.direct if full(way) is None)
            if ways or known.address.relay:
                sources.setdefault(known.group, []).append(replace(known.address, direct=ways))
        chosen: list[PeerAddress] = []
        while sources and len(chosen) < count:
            source = self._random.choice(list(sources))
            found = sources[source]
            chosen.append(found.pop(self._random.randrange(len(found))))
            if not found:
                del sources[source]
        return chosen

    def in_turn(self, found: Iterable[T], key: Callable[[T], PublicKey]) -> Iterator[T]:
        """The best first, then of every other source one, and so on, however much one of them talks.

        Those met come before others, then of whose nodes the fewest calls were in vain; what is of one source keeps its
        order.

        Args:
            found: what has to do with nodes that are known here, the best first.
            key: of its node.
        """
        sources: dict[str, deque[T]] = {}
        first: str | None = None
        for one in found:
            if (known := self._known.get(key(one))) is None:
                continue
            if first is None:
                first = known.group
                yield one  # the others are looked for only if that was not enough
            else:
                sources.setdefault(known.group, deque()).append(one)
        vain: Counter[str] = Counter()
        for known in self._known.values():
            vain[known.group] += known.failures
        order = sorted(sources, key=lambda name: (name == first, name != MET, vain[name]))
        turns = deque(sources[name] for name in order)
        while turns:
            source = turns.popleft()
            yield source.popleft()
            if source:
                turns.append(source)

    def tell(self, count: int, asker: PublicKey, now_ms: UnixMs, trust: Trust) -> tuple[PeerSeen, ...]:
        """Some of those met, for a peer that asks. Who asks from afar is told no private address."""
        good = []
        for key, known in self._known.items():
            ways = tuple(way for way in believed(known.address.direct, trust) if len(way) <= 64)
            if key != asker and ways and known.met_ms and not known.failures and now_ms - known.met_ms <= TOLD_MS:
                good.append(PeerSeen(key, ways))
        return tuple(self._random.sample(good, min(count, len(good))))

    # --- on disk -------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """JSON, for a person to read as well."""
        peers = [
            {"address": str(known.address), "source": known.source, "met_ms": known.met_ms, "pinned": known.pinned}
            for known in list(self._known.values())
        ]
        return json.dumps({"format": "tirami/1/peers", "peers": peers}, indent=1).encode()

    def restore(self, data: bytes) -> None:
        """What an earlier run wrote; an entry that makes no sense is passed over, a file that is none is empty."""
        found = {}
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            for entry in json.loads(data)["peers"][:MAX_KNOWN]:
                with suppress(InvalidField):
                    address = PeerAddress.parse(entry["address"])
                    known = Known(address, str(entry["source"]), UnixMs(int(entry["met_ms"])), bool(entry["pinned"]))
                    if address.key != self._own:
                        found[address.key] = known
        self._known = self._known | found

    def _make_room(self, *, for_met: bool) -> bool:
        """Whether one more fits: who was never met goes first, who was met goes only for another who was.

        Of those never met the one goes that failed most often, of equals the oldest: anybody can make a key that sorts
        last. Of those met one of the largest neighbourhood goes: whoever comes under ever new keys displaces itself.
        """
        if len(self._known) < MAX_KNOWN:
            return True
        loose = [(key, known) for key, known in self._known.items() if not known.pinned]
        if unmet := [key for key, known in loose if not known.met_ms]:
            del self._known[max(unmet, key=lambda key: self._known[key].failures)]
            return True
        if not (loose and for_met):
            return False
        near = [(known.neighbourhood, known.met_ms, key) for key, known in loose]
        crowd = Counter(place for place, _, _ in near if place is not None)
        del self._known[min((-crowd[place] if place else -1, met_ms, key) for place, met_ms, key in near)[2]]
        return True


def believed(ways: Iterable[str], trust: Trust) -> tuple[str, ...]:
    """Addresses worth a call, of those a stranger names: IP addresses of one host, private ones only from nearby.

    No names: looking one up would be asking third parties at a stranger's bidding.
    """
    kept = []
    for way in ways:
        with suppress(InvalidField):
            place = HostPort.parse(way)
            if place.ip is None:
                continue
            ip = ip_address(str(place.ip))
            if ip.is_multicast or ip.is_unspecified or ip.is_reserved:
                continue
            if ip.is_global or trust is not Trust.FAR:
                kept.append(str(place))
    return tuple(dict.fromkeys(kept))[:MAX_WAYS]


def seen(entries: Iterable[PeerSeen]) -> list[PeerAddress]:
    """As addresses; what is none is passed over."""
    found = []
    for entry in entries:
        with suppress(InvalidField):
            found.append(PeerAddress(PublicKey(entry.key), entry.addresses))
    return found


def _joined(*addresses: PeerAddress) -> PeerAddress:
    """Of one node, the first ones first."""
    ways = tuple(dict.fromkeys(way for address in addresses for way in address.direct))[:MAX_WAYS]
    relay = next((address.relay for address in addresses if address.relay), None)
    return PeerAddress(addresses[0].key, ways, relay)
