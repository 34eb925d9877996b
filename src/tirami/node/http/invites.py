"""Invitations: made for a newcomer, shown to who made one."""

from typing import TYPE_CHECKING

from tirami.api.schemas import InviteReply, InviteRequest, JoinReply, JoinRequest
from tirami.core.errors import Conflict
from tirami.node.http.handlers import Call, handles

if TYPE_CHECKING:
    from tirami.node.mesh import Guests


@handles("create_invite")
async def create_invite(call: Call) -> InviteReply:
    body: InviteRequest = call.body
    made = _guests(call).invite(body.expires_secs * 1000)
    return InviteReply(
        token=str(made),
        expires_ms=made.expires_ms,
        node_id=made.address.key.hex(),
        network=made.network,
        network_hash=made.network_hash.hex(),
        addresses=list(made.address.direct),
    )


@handles("join")
async def join(call: Call) -> JoinReply:
    """Waits for the other node's answer."""
    body: JoinRequest = call.body
    guests = _guests(call)
    invitation = guests.read(body.token)
    await guests.join(invitation)
    return JoinReply(
        inviter=invitation.address.key.hex(),
        network=invitation.network,
        network_hash=invitation.network_hash.hex(),
        addresses=list(invitation.address.direct),
    )


def _guests(call: Call) -> "Guests":
    """Raises ``Conflict``."""
    guests = call.parts.membership.guests
    if guests is None:
        raise Conflict("this node is on no mesh: start it with mesh.enabled = true")
    return guests
