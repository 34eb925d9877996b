"""Whom this node knows as providers: the newest signal of each, how fast they answer, who comes first (spec 02 §7, §8).

Fed by gossip, bounded, and forgetful: who brings too much displaces what it brought itself, never a connected peer
(:mod:`~tirami.market.shares`), and what a signal says ends with its lifetime. Nothing here decides what a record is
worth.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from tirami.core.clock import APART_MS
from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, MicroTrm, Ppm, Trm, UnixMs
from tirami.ledger import Price, tier_of
from tirami.market.ranking import Ranking
from tirami.market.routing import Candidate, schedule_score
from tirami.market.shares import Shares
from tirami.proto import Offering, Signal, SignedBody

MAX_PEERS = 10_000
MAX_OFFERINGS = 16_000
"""Models that all of them together may offer: about 900 bytes each in memory."""
MAX_BROUGHT = 2_000
"""Models, and so peers, that one peer may tell of."""
LATENCY_MS = 500.0
"""Of a peer that has not been measured."""
_WEIGHT = 0.2
REMEMBERED = 20_000
"""Peers that were forgotten, of which the time of the last signal is known still."""


@dataclass(slots=True)
class KnownPeer:
    """A provider as last heard of.

    Attributes:
        heard_ms: since when its signal counts, by this node's clock: when it came, less its age then.
        signed: the signal as its node signed it, for whoever wants to check.
        latency_ms: smoothed time to its first word.
    """

    signal: Signal
    heard_ms: UnixMs
    signed: SignedBody | None = None
    latency_ms: float = LATENCY_MS

    def fresh(self, now_ms: int) -> bool:
        return now_ms <= self.heard_ms + self.signal.lifetime_ms

    def free(self, now_ms: int) -> bool:
        """Whether it says that it could begin something now."""
        return self.fresh(now_ms) and self.signal.free_tokens > 0 and self.signal.slots > 0


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that serves a model now."""

    peer: KnownPeer
    offering: Offering
    candidate: Candidate


class PeerRegistry:
    """Peers by key, the least recently heard of first.

    Args:
        reputation: of a key, parts per million; asked anew each time, so it may cache.
    """

    def __init__(self, reputation: Callable[[bytes], Ppm], capacity: int = MAX_PEERS) -> None:
        self._reputation = reputation
        self._peers: OrderedDict[bytes, KnownPeer] = OrderedDict()
        self._shares = Shares(max(1, capacity), MAX_OFFERINGS, MAX_BROUGHT)
        self._ranking = Ranking()
        self._past: OrderedDict[bytes, int] = OrderedDict()
        """``at_ms`` of the last signal of those that were forgotten: nobody else's word brings it back."""
        self._unranked: set[bytes] = set()
        """Peers whose place in the ranking is not up to date."""

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[KnownPeer]:
        return iter(self._peers.values())

    def reputation(self, key: bytes) -> Ppm:
        return self._reputation(key)

    def get(self, key: bytes) -> KnownPeer | None:
        return self._peers.get(key)

    def is_news(self, signal: Signal, now_ms: UnixMs, age_ms: int = 0, by: bytes | None = None) -> bool:
        """Whether a signal is to be taken, if its signature is good.

        Not so: one as old as the last known of its node, one that has ended, one from another hour. Of two clocks
        neither is right: what a signal lasts is counted from when it came, its order is by its own node's clock alone.
        A node that was forgotten may itself repeat the last it said.

        Args:
            age_ms: of the signal, by the word of who told it.
            by: who told it; its own node by default.
        """
        last = self._past.get(signal.node, -1) - (by in (None, signal.node))
        if (known := self._peers.get(signal.node)) is not None:
            last = known.signal.at_ms
        return (
            signal.at_ms > last
            and age_ms < signal.lifetime_ms
            and now_ms - signal.lifetime_ms - APART_MS <= signal.at_ms <= now_ms + APART_MS
        )

    def ingest(
        self,
        signal: Signal,
        now_ms: UnixMs,
        signed: SignedBody | None = None,
        by: bytes | None = None,
        age_ms: int = 0,
    ) -> bool:
        """Take a signal whose signature has been checked; whether it was news (:meth:`is_news`) and there was a place.

        ``by`` is who told it, in whose share it counts.
        """
        if not self.is_news(signal, now_ms, age_ms, by):
            return False
        known, since_ms = self._peers.get(signal.node), UnixMs(now_ms - age_ms)
        if known is not None:
            known.signal, known.heard_ms, known.signed = signal, since_ms, signed
            self._peers.move_to_end(signal.node)
        else:
            self._peers[signal.node] = KnownPeer(signal, since_ms, signed)
            self._past.pop(signal.node, None)
        self._unranked.add(signal.node)
        by = by or signal.node
        self._shares.put(signal.node, len(signal.models), by)
        for key in self._shares.excess(by):
            self.forget(key)
        self._rank()  # now and not when somebody asks: by then it might be all of them
        return signal.node in self._peers

    def connected(self, key: bytes) -> None:
        """From now on no other peer's word displaces what this one says."""
        self._shares.connect(key)

    def disconnected(self, key: bytes) -> None:
        """Who is gone serves nobody: it is forgotten."""
        self.forget(key)
        self._shares.disconnect(key)

    def released(self, key: bytes) -> None:
        """It is not connected any more, by this node's choice: what it said last stands."""
        self._shares.release(key)

    def update_latency(self, key: bytes, measured_ms: float) -> None:
        """Count a measured time to the first word in; nonsense is ignored."""
        known = self._peers.get(key)
        if known is not None and 0 <= measured_ms < 3_600_000:
            known.latency_ms = _WEIGHT * measured_ms + (1 - _WEIGHT) * known.latency_ms
            self._unranked.add(key)

    def reconsider(self, key: bytes) -> None:
        """Its reputation is another."""
        if key in self._peers:
            self._unranked.add(key)

    def forget(self, key: bytes) -> None:
        """It is known to be gone."""
        known = self._peers.pop(key, None)
        if known is not None:
            self._past[key] = known.signal.at_ms
            while len(self._past) > REMEMBERED:
                self._past.popitem(last=False)
            self._shares.drop(key)
            self._ranking.drop(key)
            self._unranked.discard(key)

    def prune(self, now_ms: int) -> int:
        """Drop every signal that has ended; returns how many. A pass over all: to be called now and then."""
        stale = [key for key, peer in self._peers.items() if not peer.fresh(now_ms)]
        for key in stale:
            self.forget(key)
        return len(stale)

    def providers(self, model: str | bytes | None, now_ms: int) -> list[Provider]:
        """Who serves a model now, by name or digest (any, for ``None``), unordered; only those with something free."""
        return [found for peer in self._peers.values() for found in self.offers(peer, model, now_ms)]

    def ranked(
        self,
        model: str | bytes | None,
        completion_tokens: int,
        now_ms: int,
        allowed: Callable[[bytes], bool] = lambda _: True,
    ) -> Iterator[Provider]:
        """The same, the highest :func:`~tirami.market.routing.schedule_score` first, each found when it is asked for.

        Args:
            completion_tokens: what each would be asked to take on.
            allowed: whether a key may come at all.
        """
        self._rank()

        def score(key: bytes, number: int) -> Fraction | None:
            found = self._offered(key, number, model) if allowed(key) else None
            if found is None or not found.peer.free(now_ms):
                return None
            return schedule_score(found.candidate, found.candidate.cost(0, completion_tokens))

        for key, number in self._ranking.read(model, score):
            if (found := self._offered(key, number, model)) is not None:
                yield found

    def _offered(self, key: bytes, number: int, model: str | bytes | None) -> Provider | None:
        """What is ranked there; ``None`` once the peer is gone or offers something else."""
        peer = self._peers.get(key)
        if peer is None or number >= len(peer.signal.models):
            return None
        offering = peer.signal.models[number]
        if model not in (None, offering.name, offering.model_digest):
            return None
        return Provider(peer, offering, self._candidate(peer, offering))

    def _rank(self) -> None:
        for key in self._unranked:
            peer = self._peers[key]
            offers = [(self._candidate(peer, offering), offering) for offering in peer.signal.models]
            self._ranking.put(
                key,
                [
                    (schedule_score(candidate, Trm(0)), (None, offering.name, offering.model_digest))
                    for candidate, offering in offers
                ],
            )
        self._unranked.clear()

    def offers(self, peer: KnownPeer, model: str | bytes | None, now_ms: int) -> list[Provider]:
        """The same of one peer."""
        if not peer.free(now_ms):
            return []
        return [
            Provider(peer, offering, self._candidate(peer, offering))
            for offering in peer.signal.models
            if model in (None, offering.name, offering.model_digest)
        ]

    def _candidate(self, peer: KnownPeer, offering: Offering) -> Candidate:
        signal = peer.signal
        price = Price(MicroTrm(offering.price_in), MicroTrm(offering.price_out))
        return Candidate(
            provider=PublicKey(signal.node),
            price=price,
            list_price=MicroTrm(tier_of(offering.active_parameters).value * MICRO),
            reputation=self._reputation(signal.node),
            latency_ms=round(peer.latency_ms),
            available=Trm(signal.free_tokens * offering.price_out // MICRO),
        )
