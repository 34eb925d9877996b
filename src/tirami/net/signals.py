"""Price signals among peers: signed by their origin, passed on once by everybody, told on every change (L1-14)."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from tirami.core.clock import Clock
from tirami.core.errors import WireError
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.core.units import UnixMs
from tirami.market import PeerRegistry
from tirami.net.mesh import FAN_OUT, Mesh
from tirami.net.peer import Peer
from tirami.proto import Message, Signal, SignalSeen, SignedBody, decode, encode, sign

LOOK_S: Final = 0.5
"""How often this node looks at its own prices."""
QUIET_S: Final = 30.0
"""When nothing changed it says so this seldom."""
LIFETIME_MS: Final = 90_000
PRUNE_S: Final = 30.0
"""How often signals that have ended are forgotten."""
MEETING_BYTES: Final = 256 * 1024
"""Of signals told to one: whoever connects costs no more."""


class Signals:
    """Tells this node's own signal and passes others' on.

    Args:
        own: what this node offers now; ``None`` for nothing. Its time and lifetime are filled in here.
        now: wall time, as the ledger has it.
    """

    def __init__(
        self,
        mesh: Mesh,
        peers: PeerRegistry,
        node: Signer,
        own: Callable[[], Signal | None],
        now: Callable[[], UnixMs],
        clock: Clock,
    ) -> None:
        self._mesh = mesh
        self._peers = peers
        self._node = node
        self._own = own
        self._now = now
        self._clock = clock
        self._last: SignalSeen | None = None
        self._told: Signal | None = None
        """What :attr:`_last` says."""
        self._at_ms = UnixMs(0)
        mesh.on_message(SignalSeen, self._heard)
        mesh.add(self)

    async def met(self, peer: Peer) -> None:
        """A newcomer is told ours and the latest of others, connected ones first; the rest it hears in time."""
        self._peers.connected(peer.key)
        if self._last is not None:
            peer.send(self._last)
        now, left = self._now(), MEETING_BYTES
        latest = [known for known in reversed(list(self._peers)) if known.signed is not None and known.fresh(now)]
        for known in sorted(latest, key=lambda known: PublicKey(known.signal.node) not in self._mesh.peers):
            if known.signed is None or known.signal.node == peer.key:
                continue
            left -= len(known.signed.body)
            if left < 0:
                break
            peer.send(SignalSeen(known.signed, max(0, now - known.heard_ms)))

    def lost(self, peer: Peer) -> None:
        """Who is gone serves nobody; whom this node let go is there still."""
        if peer.released:
            self._peers.released(peer.key)
        else:
            self._peers.disconnected(peer.key)

    async def run(self) -> None:
        """Until cancelled: look at our own prices, tell when they changed or it has been quiet for long, and forget."""
        at = -QUIET_S
        pruned = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - pruned >= PRUNE_S:
                pruned = self._clock.monotonic()
                self._peers.prune(self._now())
            own = self._own()
            told = self._told
            if own is None and told is not None and told.models:
                own = _with(told, models=(), free_tokens=0, slots=0)  # no longer: said once, and then silence
            quiet = self._clock.monotonic() - at
            if own is not None and (told is None or _is_news(told, own) or (own.models and quiet >= QUIET_S)):
                at, self._told = self._clock.monotonic(), own
                self._at_ms = UnixMs(max(self._now(), self._at_ms + 1))  # rises, also while the time stands still
                self._last = _signed(own, self._at_ms, self._node)
                self._mesh.pass_on(self._last)
            await asyncio.sleep(LOOK_S)

    async def _heard(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, SignalSeen)
        signal = decode(Signal, message.signal.body)
        if signal.node == self._mesh.key or signal.network != self._mesh.network:
            return
        now, age = self._now(), message.age_ms
        if not self._peers.is_news(signal, now, age, peer.key):
            return  # before the signature: what is old costs nothing
        if not verify(PublicKey(signal.node), Signature(message.signal.signature), Signal.TAG + message.signal.body):
            raise WireError("a signal that its node did not sign")
        if not self._peers.ingest(signal, now, message.signal, peer.key, age):
            return
        self._mesh.pass_on(message, but=(peer.key, signal.node), most=FAN_OUT)


def _is_news(told: Signal, own: Signal) -> bool:
    """Other models, prices or features; somebody free or nobody; or what is free has halved or doubled."""
    if _with(told, **_PASSING) != _with(own, **_PASSING) or bool(told.slots) != bool(own.slots):
        return True
    less, more = sorted((told.free_tokens, own.free_tokens))
    return 2 * less < more


_PASSING: Final = {"free_tokens": 0, "slots": 0, "at_ms": 0, "lifetime_ms": 1}


def _with(signal: Signal, **changed: object) -> Signal:
    return msgspec.structs.replace(signal, **changed)


def _signed(signal: Signal, at_ms: UnixMs, node: Signer) -> SignalSeen:
    dated = _with(signal, at_ms=at_ms, lifetime_ms=LIFETIME_MS)
    return SignalSeen(SignedBody(encode(dated), sign(dated, node)))
