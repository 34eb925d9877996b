"""What people see of the mesh: each peer and why nothing is bought from it, connections, selling and buying."""

import math
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

from tirami.api import schemas as s
from tirami.core.clock import Clock
from tirami.core.config import MeshConfig
from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, Ppm, Trm
from tirami.ledger import Ledger
from tirami.market import KnownPeer, Provider, schedule_score
from tirami.market.registry import LATENCY_MS
from tirami.net.peer import Peer
from tirami.proto import VERSION, Offering, Probe

if TYPE_CHECKING:
    from tirami.node.mesh.service import MeshService

AUDIT_TIERS = ("Unverified", "Probationary", "Established", "Trusted")
SCORED_TOKENS = 1_000
"""Length of the answer a peer's score is for."""
MOST_CALLING = 100
"""Peers called in vain that a report of this node names."""


LOOKED_AT = 64
"""Peers a second that looks for a seller go into: why nothing is bought of one may take 0.1 ms to find."""


class MeshView:
    """Reads a running mesh; changes nothing."""

    def __init__(self, config: MeshConfig, ledger: Ledger, service: "MeshService", clock: Clock) -> None:
        self._config = config
        self._ledger = ledger
        self._service = service
        self._clock = clock
        self._looked_s = -math.inf
        self._seller: PublicKey | None = None
        """When :meth:`has_seller` looked last, and whom it saw selling."""
        self._turn = 0
        """Where its next look begins."""

    # --- peers -------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> int:
        return len(self._service.mesh.peers)

    @property
    def signals(self) -> int:
        return len(self._service.peers)

    @property
    def sold(self) -> int:
        return self._service.provider.sold

    @property
    def selling_now(self) -> int:
        return self._service.provider.running

    @property
    def bought(self) -> int:
        return self._service.shop.bought

    @property
    def buying_now(self) -> int:
        return self._service.shop.running

    @property
    def records(self) -> tuple[int, int]:
        """Records that peers brought and the book took; copies this node passed on."""
        return self._service.gossip.taken, self._service.gossip.passed_on

    @property
    def clocks_ahead_ms(self) -> list[int]:
        """How far each connected peer's time stands ahead of this node's, of those that told it."""
        return [peer.ahead_ms for peer in self._service.mesh.peers.values() if peer.ahead_ms is not None]

    def reputation(self, key: bytes) -> Ppm:
        return self._service.peers.reputation(key)

    @property
    def mean_reputation(self) -> Ppm:
        return self._service.reputation.mean()

    def providers(self, model: str | bytes | None) -> list[Provider]:
        """Offers that could begin now, of peers connected or with an address; why not to take one: :meth:`why_not`."""
        now, connected = self._ledger.now(), self._service.mesh.peers
        distant = [key for key in self._service.finding.book if key not in connected]
        known = [self._service.peers.get(key) for key in [*connected, *distant]]
        return [found for peer in known if peer for found in self._service.peers.offers(peer, model, now)]

    def sellers(self, model: str | bytes | None) -> list[Provider]:
        """Those of :meth:`providers` this node would buy from: only where nobody is connected, who would be called."""
        willing = self._willing(model)
        return [one for one in willing if not self._distant(one)] or willing

    def has_seller(self) -> bool:
        """Whether anything is to be bought of anybody: one look a second answers all probes.

        The first look goes into everybody, later ones into ``LOOKED_AT`` for every second since the one before. So it
        says no of 1 000 that could sell, one of which does, for 16 s at most, however often it is asked.
        """
        now = self._clock.monotonic()
        if (since_s := now - self._looked_s) >= 1:
            self._looked_s, self._seller = now, self._selling(LOOKED_AT * since_s)
        return self._seller is not None

    def _selling(self, most: float) -> PublicKey | None:
        """The one seen last, if it still does, or another: of those that could, so many, in turn."""
        if self._seller is not None and self.why_not(self._seller) is None:
            return self._seller
        known, shop, now = self._service.peers, self._service.shop, self._ledger.now()
        keys = dict.fromkeys(chain(self._service.mesh.peers, self._service.finding.book))
        could = [key for key in keys if (peer := known.get(key)) and peer.free(now) and shop.refusal(key) is None]
        start, looked_at = self._turn % max(1, len(could)), math.floor(min(most, len(could)))
        self._turn = start + looked_at
        turn = (could[start:] + could[:start])[:looked_at]
        return next((key for key in turn if self.why_not(key) is None), None)

    def _willing(self, model: str | bytes | None) -> list[Provider]:
        found, shop = self.providers(model), self._service.shop
        return [
            one
            for one in found
            if self.why_not(PublicKey(one.peer.signal.node)) is None and shop.fault(one.offering) is None
        ]

    def _distant(self, found: Provider) -> bool:
        return PublicKey(found.peer.signal.node) not in self._service.mesh.peers

    def by_name(self, model: str | None) -> dict[str, list[Provider]]:
        """Whom this node would buy from by the name of their model, connected ones first, then the best."""
        names: dict[str, list[Provider]] = {}
        for found in sorted(self._willing(model), key=lambda one: (self._distant(one), _rank(one))):
            names.setdefault(found.offering.name, []).append(found)
        return names

    def why_not(self, key: PublicKey, model: str | None = None) -> str | None:
        """Why nothing is bought from this peer; ``None`` for no reason."""
        if (objection := self._service.shop.objection(key)) is not None:
            return objection
        if (known := self._service.peers.get(key)) is not None:
            return self._shut(known, model)
        met = key in self._service.mesh.peers
        return "it sells nothing" if met else "not connected: nobody has told yet what it sells"

    def _shut(self, known: KnownPeer, model: str | None) -> str | None:
        """What of its own signal stands in the way."""
        signal, now = known.signal, self._ledger.now()
        if not known.fresh(now):
            return f"its last signal is {(now - known.heard_ms) // 1000} s old"
        offered = [offering for offering in signal.models if model in (None, offering.name)]
        if not offered:
            return "it sells nothing" if model is None else f"it does not serve {model}"
        least, most = min(map(_token_trm, offered)), self._config.max_trm
        within = [offering for offering in offered if not most or _token_trm(offering) <= most] or offered
        fault = self._service.shop.fault
        if (first := fault(within[0])) is not None and all(map(fault, within[1:])):
            return first
        if signal.slots == 0:
            return "it has no free place"
        if signal.free_tokens == 0:
            return "its engines are busy for the next minute"
        if most and least > most:
            return f"it is too dear: a token costs {least} TRM, and mesh.max_trm is {most}"
        return None

    def obstacle(self) -> str:
        """Why nothing is bought from those this node stays with, the first of them that objects; empty for none."""
        for key in self._service.mesh.kept:
            if (reason := self.why_not(key)) is not None:
                failure, _ = self._failed(key)
                return f"peer {key.hex()[:16]}: {reason}" + (f" ({failure})" if failure else "")
        return ""

    def peers(self, query: s.PeersQuery, *, addresses: bool) -> s.PeersReply:
        """``addresses``: whether the caller may see where peers are."""
        mesh, known = self._service.mesh, self._service.peers
        near = [*mesh.peers, *self._missing]
        heard = dict.fromkeys(PublicKey(one.signal.node) for one in known)
        distant = [key for key in [*self._tried(), *heard] if key not in mesh.peers and key not in mesh.kept]
        distant = list(dict.fromkeys(reversed(distant)))  # those heard of last come first
        keys = [*near, *distant[: query.limit]]
        probes = self._service.finding.probes.newest()
        found = (self._entry(key, query.model, probes.get(key), addresses=addresses) for key in keys)
        entries = sorted(found, key=_first)
        return s.PeersReply(
            enabled=True,
            starting=False,
            count=len(near) + len(distant),
            connected=self.connected,
            peers=entries[: query.limit],
        )

    def _tried(self) -> list[PublicKey]:
        """Those in the address book that are more than hearsay: met before, vouched for, or called in vain."""
        book = self._service.finding.book
        entries = ((key, book.get(key)) for key in book)
        return [key for key, known in entries if known and (known.met_ms or known.pinned or known.failures)]

    def _failed(self, key: PublicKey) -> tuple[str | None, int | None]:
        """Why the last call of one that is not connected was in vain, and seconds until it may be called again."""
        mesh, known = self._service.mesh, self._service.finding.book.get(key)
        if key in mesh.peers:
            return None, None
        if key in mesh.kept:
            missed = mesh.missed.get(key)
            reason, due_s = (missed.reason, missed.again_s) if missed else ("", 0.0)
        else:
            reason, due_s = (known.failure, known.due_s) if known else ("", 0.0)
        return (reason, max(0, math.ceil(due_s - self._clock.monotonic()))) if reason else (None, None)

    def _entry(self, key: PublicKey, model: str | None, probe: Probe | None, *, addresses: bool) -> s.PeerEntry:
        peer, known = self._service.mesh.peers.get(key), self._service.peers.get(key)
        signal, now = (known.signal if known else None), self._ledger.now()
        offers = self._service.peers.offers(known, model, now) if known else []
        best = max(offers, key=_score, default=None)
        hello = peer.hello if peer else None
        failure, again_s = self._failed(key)
        available = max((offer.candidate.available or Trm(0) for offer in offers), default=Trm(0))
        return s.PeerEntry(
            node_id=key.hex(),
            connected=peer is not None,
            kept=key in self._service.mesh.kept,
            failure=failure if addresses else None,
            again_s=again_s,
            address=peer.connection.remote if peer and addresses else None,
            dialled=peer.connection.dialled if peer else None,
            latency_ms=_rtt_ms(peer),
            latency_ema_ms=round(known.latency_ms if known else LATENCY_MS, 3),
            probe=_probe(probe, addresses=addresses),
            agent=hello.agent if hello else None,
            protocol_version=min(VERSION, hello.version_max) if hello else VERSION,
            features=list(hello.features if hello else signal.features if signal else ()),
            same_network_file=hello.network_hash == self._ledger.network.hash if hello else None,
            price_multiplier=signal.demand_ppm / MICRO if signal else 1.0,
            available_cu=available,
            available_trm=available,
            free_tokens=signal.free_tokens if signal else 0,
            slots=signal.slots if signal else 0,
            audit_tier=AUDIT_TIERS[signal.audit_tier if signal else 0],
            models=[offering.name for offering in signal.models] if signal else [],
            offerings=[_offering(offering) for offering in signal.models] if signal else [],
            reputation=self.reputation(key) / MICRO,
            score=round(float(_score(best)), 6) if best else None,
            why_not=self.why_not(key, model),
            clock_ahead_ms=peer.ahead_ms if peer else None,
            last_seen=signal.at_ms if signal else 0,
            age_ms=max(0, now - known.heard_ms) if known else None,
            stale=known is not None and not known.fresh(now),
            signal=known.signed.body.hex() if known and known.signed else None,
            signature=known.signed.signature.hex() if known and known.signed else None,
        )

    # --- this node ---------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return str(self._service.mesh.address())

    def probe(self, *, addresses: bool) -> s.ProbeEntry | None:
        """Whether a peer could reach this node, as the last one said that looked."""
        return _probe(self._service.finding.probes.newest().get(self._service.mesh.key), addresses=addresses)

    def links(self, *, addresses: bool) -> list[s.TopologyLink]:
        return [self._link(peer, addresses=addresses) for peer in self._service.mesh.peers.values()]

    def _link(self, peer: Peer, *, addresses: bool) -> s.TopologyLink:
        known, hello, remote = self._service.peers.get(peer.key), peer.hello, peer.connection.remote
        return s.TopologyLink(
            node_id=peer.key.hex(),
            address=remote if addresses else None,
            relayed=remote is None,
            dialled=peer.connection.dialled,
            kept=peer.key in self._service.mesh.kept,
            connected_s=round(peer.age_s, 3),
            latency_ms=_rtt_ms(peer),
            agent=hello.agent if hello else "",
            listening=list(hello.listening) if hello and addresses else [],
            models=[offering.name for offering in known.signal.models] if known else [],
        )

    @property
    def missing(self) -> list[str]:
        return [key.hex() for key in self._missing]

    @property
    def _missing(self) -> list[PublicKey]:
        """Those this node stays with, and does not reach."""
        mesh = self._service.mesh
        return [key for key in mesh.kept if key not in mesh.peers]

    def calling(self) -> list[s.CallingEntry]:
        """Some of those this node keeps calling, and what came of it last."""
        kept, entries = self._service.mesh.kept, []
        for key in self._missing[:MOST_CALLING]:
            failure, again_s = self._failed(key)
            entry = s.CallingEntry(node_id=key.hex(), address=str(kept[key]), failure=failure, again_s=again_s)
            entries.append(entry)
        return entries

    def selling(self) -> s.SellingReport:
        desk = self._service.desk
        models = [engine.card.name for engine in desk.sellable]
        return s.SellingReport(
            on=desk.open,
            paused=desk.paused,
            running=self.selling_now,
            slots=self._config.slots,
            free=desk.free_slots if models else 0,
            idle_only=self._config.idle_only,
            models=models,
            sold=self.sold,
        )


def _first(entry: s.PeerEntry) -> tuple[object, ...]:
    return (
        not entry.connected,
        not entry.connected and not entry.kept,
        entry.why_not is not None,
        -(entry.score or 0.0),
        entry.node_id,
    )


def _score(found: Provider) -> Fraction:
    return schedule_score(found.candidate, found.candidate.cost(0, SCORED_TOKENS))


def _token_trm(offering: Offering) -> int:
    """What one token of an answer costs at least."""
    return -(-offering.price_out // MICRO)


def _rtt_ms(peer: Peer | None) -> float | None:
    return None if peer is None or peer.rtt_s is None else round(peer.rtt_s * 1000, 3)


def _probe(seen: Probe | None, *, addresses: bool) -> s.ProbeEntry | None:
    if seen is None:
        return None
    return s.ProbeEntry(
        by=seen.observer.hex() if addresses else None,
        reached=seen.reached,
        rtt_ms=seen.rtt_us / 1000 if seen.reached else None,
        address=", ".join(seen.addresses) if addresses else None,
        at_ms=seen.at_ms,
    )


def _offering(offering: Offering) -> s.OfferingEntry:
    return s.OfferingEntry(
        name=offering.name,
        digest=offering.model_digest.hex(),
        tokenizer_digest=offering.tokenizer_digest.hex(),
        context_length=offering.context_length,
        price_in_utrm=offering.price_in,
        price_out_utrm=offering.price_out,
    )


def _rank(found: Provider) -> tuple[Fraction, bytes]:
    return -_score(found), found.peer.signal.node
