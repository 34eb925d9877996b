"""The end of a key: shown of any, ordered of this node's own."""

from typing import TYPE_CHECKING

from tirami.api.schemas import (
    KeyEndedReply,
    KeyOrder,
    KeyQuery,
    KeyReply,
    KeyRevocationRequest,
    KeyRotationRequest,
)
from tirami.core.errors import Conflict, InvalidField
from tirami.core.keys import PublicKey, Signature, parse_node_id
from tirami.node.http.handlers import Call, handles
from tirami.proto import NO_SUCCESSOR, NetworkFile, Rotation, SignedBody, Successor

if TYPE_CHECKING:
    from tirami.node.mesh.handover import Ended, Handover


@handles("key", shows_book=True)
async def key(call: Call) -> KeyReply:
    query: KeyQuery = call.query
    ledger = call.parts.ledger
    shown = call.parts.key.public_key if query.node is None else parse_node_id(query.node)
    orders, heir = ledger.state.succession.orders(shown), ledger.state.succession.heir(shown)
    return KeyReply(
        network=ledger.network.id,
        node_id=shown.hex(),
        ended=bool(orders),
        acts_now=None if heir is None else heir.hex(),
        contested=len(orders) > 1 and all(order.successor != NO_SUCCESSOR for order, _ in orders),
        roles=_roles(ledger.network, shown.hex()),
        orders=[_order(*order) for order in orders],
    )


@handles("rotate_key")
async def rotate_key(call: Call) -> KeyEndedReply:
    body: KeyRotationRequest = call.body
    handover = _handover(call, body.node_id)
    successor = Successor(PublicKey(bytes.fromhex(body.successor)), Signature(bytes.fromhex(body.consent)))
    return _ended(call, await handover.rotate(successor, move=body.move))


@handles("revoke_key")
async def revoke_key(call: Call) -> KeyEndedReply:
    body: KeyRevocationRequest = call.body
    return _ended(call, await _handover(call, body.node_id).revoke())


def _handover(call: Call, named: str) -> "Handover":
    """Raises ``InvalidField``, ``Conflict``."""
    own = call.parts.key.public_key
    if parse_node_id(named) != own:
        raise InvalidField(f"this node's key is {own.hex()}", param="node_id")
    handover = call.parts.membership.handover
    if handover is None:
        raise Conflict("this node is on no mesh, nobody would hear of it: start it with mesh.enabled = true")
    return handover


def _ended(call: Call, ended: "Ended") -> KeyEndedReply:
    order, moved, view = ended.order, ended.moved, call.parts.membership.view
    return KeyEndedReply(
        node_id=order.key.hex(),
        successor=_successor(order),
        moved_trm=moved.demand.debit.amount if moved else 0,
        record_id=moved.record_id.hex() if moved else None,
        peers=view.connected if view else 0,
        order=_order(order, ended.signed),
    )


def _order(order: Rotation, signed: SignedBody) -> KeyOrder:
    return KeyOrder(
        successor=_successor(order),
        last_incarnation=order.last_incarnation,
        last_number=order.last_number,
        at_ms=order.at_ms,
        body=signed.body.hex(),
        signature=signed.signature.hex(),
    )


def _successor(order: Rotation) -> str | None:
    return None if order.successor == NO_SUCCESSOR else order.successor.hex()


def _roles(network: NetworkFile, key: str) -> list[str]:
    named = {
        "issuer": key in {issuer.key for issuer in network.issuers},
        "witness": key in network.witnesses,
        "seed": any(seed.startswith(key) for seed in network.seeds),
    }
    return [role for role, held in named.items() if held]
