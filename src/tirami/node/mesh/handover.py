"""The end of this node's key, as its operator orders it (A-31): signed, written down, told to everybody, for good.

What the key owns can go to its successor, in a record that stands before the order: after it the key spends nothing any
more. All else stays with the old key: its credit line, its part in the network file, what others still owe it.
"""

from dataclasses import dataclass

from tirami.core.errors import Conflict
from tirami.core.keys import SigningKey
from tirami.core.units import Trm
from tirami.ledger import Admitted, Ledger, transfer, transferable
from tirami.net.rotations import Rotations
from tirami.proto import NO_SUCCESSOR, Rotation, SignedBody, Successor
from tirami.verify import check_successor


@dataclass(frozen=True, slots=True)
class Ended:
    """The order, as it was signed, and the transfer that went before it; ``None`` where nothing was moved."""

    order: Rotation
    signed: SignedBody
    moved: Admitted | None = None


class Handover:
    """Of one node."""

    def __init__(self, ledger: Ledger, rotations: Rotations, node: SigningKey) -> None:
        self._ledger = ledger
        self._rotations = rotations
        self._node = node

    async def rotate(self, successor: Successor, *, move: bool) -> Ended:
        """End the node key in favour of ``successor``; durable and told when it returns.

        Args:
            move: give it what the key owns first, through the gate: who may not spend so much orders nothing either.

        Raises ``Conflict`` when either key has ended already: a second successor would leave none. Raises
        ``InvalidSignature``, ``InvalidProof``, ``SpendDenied``, ``StorageUnavailable``.
        """
        own, succession = self._node.public_key, self._ledger.state.succession
        check_successor(self._ledger.network.id, own, successor)
        if succession.ended(own):
            raise Conflict("this node's key has ended already", param="node_id")
        if succession.ended(successor.key):
            raise Conflict("the successor's own key has ended", param="successor")
        moved = booked = None
        owned = transferable(self._ledger, own) if move else Trm(0)
        if owned:
            moved, booked = transfer(self._ledger, self._node, successor.key, owned)
        order, signed = await self._rotations.order(self._node, successor)
        if booked is not None:
            await booked
        return Ended(order, signed, moved)

    async def revoke(self) -> Ended:
        """End the node key in favour of nobody, also after a rotation somebody else may have signed with it.

        Raises ``Conflict`` when that would say nothing new, ``StorageUnavailable``.
        """
        succession = self._ledger.state.succession
        known = succession.orders(self._node.public_key)
        if len(known) > 1 or any(order.successor == NO_SUCCESSOR for order, _ in known):
            raise Conflict("this node's key has no successor already", param="node_id")
        return Ended(*await self._rotations.order(self._node, None))
