"""The mesh-wide kill: an operator's signed order reaches its own nodes through everybody's (PROTOCOL B13, SAF-01).

Whoever hears of an order passes it on once, to all its peers; only nodes that name its operator carry it out, and what
they say of it goes back the way it came. Orders of one operator key carry rising numbers and an expiry, so nothing old
is carried out again, also after a restart. Numbers are the time or little more: whoever stole a key does not use up
what its owner, or the key that follows, still needs.

Clocks may differ by an hour, so an order is obeyed for an hour longer than it lasts: who is unsure whether a kill has
expired freezes. What an order did any later release undoes: that its number is higher proves it the operator's later
word. The switch that was thrown on the node itself has no number: it stays unless the release is dated more than an
hour later, for whoever kept an older one from this node must not undo with it what was done since.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from tirami.core.clock import APART_MS, Clock
from tirami.core.errors import Conflict, StorageUnavailable, WireError
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.ledger import Ledger
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import KillAnswer, KillAnswered, KillOrder, KillOrdered, Message, SignedBody, decode, encode, sign

_log = structlog.get_logger()
LIFETIME_MS: Final = 600_000
"""Until an order's expiry, by the clock of who gave it; obeyed and passed on for an hour more, as clocks may differ."""
LATEST_MS: Final = APART_MS + 2 * LIFETIME_MS
"""How far ahead of now an order's number and expiry may be."""
ANSWERS: Final = 256
"""Of one order, that are passed back."""
OPERATORS: Final = 256
"""Operators whose newest order is kept: keys cost nothing."""
PEERS: Final = 4_096
"""Peers whose orders are counted."""
UNSURE: Final = (
    "its switch was thrown on that node itself, and as clocks may differ by an hour it cannot tell that the release is"
    " the later: release it there (tirami safety release)"
)
"""Answer of a node that an order does not release."""
PER_MINUTE: Final = 16
"""Strangers' orders one peer may bring in a minute."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order under way.

    Attributes:
        position: in this node's journal, where it is durable.
        told: peers it was sent to; some may be strangers'.
        answers: what nodes said of it so far, each under its signature; more come.
    """

    position: int
    told: int
    answers: Mapping[bytes, KillAnswer]


@dataclass(frozen=True, slots=True)
class _Heard:
    """The newest order of one operator, who brought it, and what nodes said of it."""

    number: int
    message: KillOrdered
    source: PublicKey | None
    answers: dict[bytes, KillAnswer] = field(default_factory=dict)
    brought: dict[bytes, PublicKey] = field(default_factory=dict)
    """Through which peer each of them came."""

    def has_place(self, peer: PublicKey) -> bool:
        """For one more of this peer's: nodes cost nothing, so where all is taken who brought most makes room."""
        brought = Counter(self.brought.values())
        return len(self.answers) < ANSWERS or brought[peer] + 1 < max(brought.values())

    def add(self, answer: KillAnswer, peer: PublicKey) -> None:
        """It has a place."""
        if len(self.answers) >= ANSWERS:
            ((most, _),) = Counter(self.brought.values()).most_common(1)
            last = next(node for node in reversed(self.brought) if self.brought[node] == most)
            del self.answers[last], self.brought[last]
        self.answers[answer.node], self.brought[answer.node] = answer, peer


class Kills:
    """Of one node.

    Args:
        node: signs this node's own orders.
        operator: whose orders this node carries out, or those of the key that follows it.
    """

    def __init__(self, ledger: Ledger, mesh: Mesh, node: Signer, operator: PublicKey, clock: Clock) -> None:
        self._ledger = ledger
        self._mesh = mesh
        self._node = node
        self._operator = operator
        self._clock = clock
        self._newest: OrderedDict[bytes, _Heard] = OrderedDict()
        """By operator."""
        self._refused = 0
        """Number of the operator's order that was refused last, which is told once."""
        self._brought: OrderedDict[PublicKey, deque[float]] = OrderedDict()
        mesh.on_message(KillOrdered, self._heard)
        mesh.on_message(KillAnswered, self._answered)
        mesh.add(self)

    async def order(self, active: bool, reason: str, note: str) -> Ordered:
        """Freeze or release all nodes of this operator, this one first; once it is durable there.

        Raises ``Conflict`` unless the operator's key is, or has come to be, this node's; ``StorageUnavailable``.
        """
        if not self._obeys(self._node.public_key):
            heir = self._ledger.state.succession.heir(self._operator)
            if heir is None:
                raise Conflict("the operator's key was revoked, or two keys claim to follow it: no node obeys either")
            raise Conflict(f"orders for the mesh are signed on the operator's node {heir.hex()}")
        now = self._ledger.now()
        number = max(now, self._ledger.state.settings.kill_orders.get(self._node.public_key, 0) + 1)
        order = KillOrder(
            network=self._ledger.network.id,
            operator=self._node.public_key,
            number=number,
            active=active,
            reason=reason,
            expires_ms=now + LIFETIME_MS,
            at_ms=now,
        )
        told = len(self._mesh.peers)
        heard = self._pass_on(order, KillOrdered(SignedBody(encode(order), sign(order, self._node))), None)
        position = await self._ledger.set_kill(active, reason, note, number, self._node.public_key)
        return Ordered(position, told, heard.answers)

    async def met(self, peer: Peer) -> None:
        """Who comes late is told what still holds."""
        now = self._ledger.now()
        for operator, heard in list(self._newest.items()):
            if _has_expired(decode(KillOrder, heard.message.order.body), now):
                del self._newest[operator]
            else:
                peer.send(heard.message)

    def lost(self, peer: Peer) -> None:
        """What it brought stays counted."""

    async def _heard(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, KillOrdered)
        order, now = decode(KillOrder, message.order.body), self._ledger.now()
        ours = self._obeys(order.operator)
        if order.network != self._ledger.network.id or order.number <= self._last(order.operator, now, ours=ours):
            return
        objection = _objection(order, now)
        if not ours and (objection is not None or not self._affords(peer)):
            return
        signed = KillOrder.TAG + message.order.body
        if not verify(PublicKey(order.operator), Signature(message.order.signature), signed):
            raise WireError("a kill order that its operator did not sign")
        if objection is None:
            self._pass_on(order, message, peer.key)
        if ours:
            await self._take(order, objection or self._reservation(order), peer)

    def _last(self, operator: bytes, now: int, *, ours: bool) -> int:
        """Number of the last order of this key that was heard, or carried out here."""
        heard, carried_out = self._newest.get(operator), self._ledger.state.settings.kill_orders
        number = heard.number if heard is not None else 0
        if not ours:
            return number
        nameless = carried_out.get(b"", 0)  # of journals that did not say whose orders they were
        return max(number, carried_out.get(operator, 0), nameless if nameless <= now + LATEST_MS else 0)

    def _reservation(self, order: KillOrder) -> str | None:
        """Why a release is not carried out, although its number is the highest. An order since lifts no such doubt."""
        thrown_ms = self._ledger.gate.thrown_here_ms
        if order.active or thrown_ms is None or order.at_ms > thrown_ms + APART_MS:
            return None
        return UNSURE

    async def _take(self, order: KillOrder, objection: str | None, peer: Peer) -> None:
        """Carry it out, or say why not; the answer goes back."""
        ledger = self._ledger
        if objection is None:
            _log.warning("kill_ordered", active=order.active, number=order.number, reason=order.reason)
            with suppress(StorageUnavailable):  # thrown in memory all the same
                note = f"mesh operator {order.operator.hex()}"
                await ledger.set_kill(order.active, order.reason, note, order.number, order.operator)
            kill = ledger.gate.kill
            obeyed = kill is not None and kill.active is order.active
            self._answer(order, "" if obeyed else "it could not be written down", peer)
        elif order.number != self._refused:
            self._refused = order.number
            _log.warning("kill_order_dropped", active=order.active, number=order.number, reason=objection)
            self._answer(order, objection, peer)

    def _answer(self, order: KillOrder, objection: str, peer: Peer) -> None:
        answer = KillAnswer(
            network=order.network,
            operator=order.operator,
            number=order.number,
            node=self._node.public_key,
            obeyed=not objection,
            reason=objection,
            at_ms=self._ledger.now(),
        )
        peer.send(KillAnswered(SignedBody(encode(answer), sign(answer, self._node))))

    async def _answered(self, peer: Peer, message: Message) -> None:
        """Back to who brought the order, or to this node, which gave it."""
        assert isinstance(message, KillAnswered)
        answer = decode(KillAnswer, message.answer.body)
        heard = self._newest.get(answer.operator)
        if heard is None or heard.number != answer.number or answer.network != self._ledger.network.id:
            return
        if answer.node in heard.answers or not heard.has_place(peer.key):
            return
        signed = KillAnswer.TAG + message.answer.body
        if not verify(PublicKey(answer.node), Signature(message.answer.signature), signed):
            raise WireError("an answer to a kill order that its node did not sign")
        heard.add(answer, peer.key)
        source = self._mesh.peers.get(heard.source) if heard.source is not None else None
        if source is not None:
            source.send(message)

    def _obeys(self, key: bytes) -> bool:
        """Of an operator's key that ended nothing is taken any more (A-31)."""
        return key == self._ledger.state.succession.heir(self._operator)

    def _affords(self, peer: Peer) -> bool:
        now, brought = self._clock.monotonic(), self._brought.setdefault(peer.key, deque(maxlen=PER_MINUTE))
        self._brought.move_to_end(peer.key)
        while len(self._brought) > PEERS:
            self._brought.popitem(last=False)
        if len(brought) == PER_MINUTE and now - brought[0] < 60:
            return False
        brought.append(now)
        return True

    def _pass_on(self, order: KillOrder, message: KillOrdered, source: PublicKey | None) -> _Heard:
        heard = self._newest[order.operator] = _Heard(order.number, message, source)
        self._newest.move_to_end(order.operator)
        while len(self._newest) > OPERATORS:
            self._newest.popitem(last=False)
        self._mesh.pass_on(message, but=() if source is None else (source,))
        return heard


def _has_expired(order: KillOrder, now: int) -> bool:
    return order.expires_ms + APART_MS <= now


def _objection(order: KillOrder, now: int) -> str | None:
    """Why nobody is to carry it out now, or pass it on."""
    if max(order.number, order.expires_ms) > now + LATEST_MS:
        return "it is of the future: clocks differ by more than an hour"
    return "it has expired" if _has_expired(order, now) else None
