"""The mesh-wide kill: an operator's signed order reaches its own nodes through everybody's (PROTOCOL B13, SAF-01).

Whoever hears of an order passes it on once, to all its peers; only nodes that name its operator carry it out. Orders of
one operator key carry rising numbers and an expiry, so nothing old is carried out again, also after a restart. Numbers
are the time or little more: whoever stole a key does not use up what its owner, or the key that follows, still needs.
"""

from collections import OrderedDict, deque
from contextlib import suppress
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import Conflict, StorageUnavailable, WireError
from tirami.core.keys import PublicKey, Signature, Signer, verify
from tirami.ledger import Ledger
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.proto import KillOrder, KillOrdered, Message, SignedBody, decode, encode, sign

_log = structlog.get_logger()
LIFETIME_MS: Final = 600_000
"""How long an order is carried out and passed on."""
OPERATORS: Final = 256
"""Operators whose newest order is kept: keys cost nothing."""
PEERS: Final = 4_096
"""Peers whose orders are counted."""
PER_MINUTE: Final = 16
"""Strangers' orders one peer may bring in a minute."""


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
        self._newest: OrderedDict[bytes, tuple[int, KillOrdered]] = OrderedDict()
        """Number and order by operator."""
        self._brought: OrderedDict[PublicKey, deque[float]] = OrderedDict()
        mesh.on_message(KillOrdered, self._heard)
        mesh.add(self)

    async def order(self, active: bool, reason: str, note: str) -> int:
        """Freeze or release all nodes of this operator, this one first; its journal position once durable there.

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
        self._pass_on(order, KillOrdered(SignedBody(encode(order), sign(order, self._node))), None)
        return await self._ledger.set_kill(active, reason, note, number, self._node.public_key)

    async def met(self, peer: Peer) -> None:
        """Who comes late is told what still holds."""
        now = self._ledger.now()
        for operator, (_, message) in list(self._newest.items()):
            if decode(KillOrder, message.order.body).expires_ms <= now:
                del self._newest[operator]
            else:
                peer.send(message)

    def lost(self, peer: Peer) -> None:
        """What it brought stays counted."""

    async def _heard(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, KillOrdered)
        order, ledger = decode(KillOrder, message.order.body), self._ledger
        number, _ = self._newest.get(order.operator, (0, None))
        ours, now = self._obeys(order.operator), ledger.now()
        latest = now + 2 * LIFETIME_MS
        if ours:
            carried_out = ledger.state.settings.kill_orders
            nameless = carried_out.get(b"", 0)  # of journals that did not say whose orders they were
            number = max(number, carried_out.get(order.operator, 0), nameless if nameless <= latest else 0)
        if order.network != ledger.network.id or not number < order.number <= latest:
            return
        if not now < order.expires_ms <= latest or not (ours or self._affords(peer)):
            return
        signed = KillOrder.TAG + message.order.body
        if not verify(PublicKey(order.operator), Signature(message.order.signature), signed):
            raise WireError("a kill order that its operator did not sign")
        self._pass_on(order, message, peer)
        if ours:
            _log.warning("kill_ordered", active=order.active, number=order.number, reason=order.reason)
            with suppress(StorageUnavailable):  # thrown in memory all the same
                note = f"mesh operator {order.operator.hex()}"
                await ledger.set_kill(order.active, order.reason, note, order.number, order.operator)

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

    def _pass_on(self, order: KillOrder, message: KillOrdered, source: Peer | None) -> None:
        self._newest[order.operator] = order.number, message
        self._newest.move_to_end(order.operator)
        while len(self._newest) > OPERATORS:
            self._newest.popitem(last=False)
        self._mesh.pass_on(message, but=() if source is None else (source.key,))
