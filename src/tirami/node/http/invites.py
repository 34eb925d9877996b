"""Invitations: made for a newcomer, shown to who made one, listed, taken back."""

from typing import TYPE_CHECKING

from tirami.api.schemas import (
    InviteEntry,
    InviteList,
    InviteReply,
    InviteRequest,
    InviteRevocation,
    JoinReply,
    JoinRequest,
)
from tirami.core.errors import Conflict
from tirami.ledger import Invite, InviteRevoked, Invites
from tirami.node.http.handlers import Call, handles

if TYPE_CHECKING:
    from tirami.node.mesh import Guests


@handles("create_invite")
async def create_invite(call: Call) -> InviteReply:
    body: InviteRequest = call.body
    made = await _guests(call).invite(body.expires_secs * 1000, body.label)
    return InviteReply(
        token=str(made),
        invite=made.invite.hex(),
        expires_ms=made.expires_ms,
        node_id=made.address.key.hex(),
        network=made.network.id,
        network_hash=made.network.hash.hex(),
        addresses=list(made.address.direct),
    )


@handles("invites", shows_book=True)
async def invites(call: Call) -> InviteList:
    ledger = call.parts.ledger
    known = ledger.state.settings.invites
    return InviteList(invites=[_entry(known, invite) for invite in known.live(ledger.now())])


@handles("revoke_invite")
async def revoke_invite(call: Call) -> InviteEntry:
    body: InviteRevocation = call.body
    ledger = call.parts.ledger
    known = ledger.state.settings.invites
    invite = known.revocable(bytes.fromhex(body.invite), ledger.now())
    if invite.number not in known.revoked:
        await ledger.record_facts(InviteRevoked(invite.number))
    return _entry(known, invite)


@handles("join")
async def join(call: Call) -> JoinReply:
    """Waits for the other node's answer."""
    body: JoinRequest = call.body
    guests = _guests(call)
    invitation = guests.read(body.token)
    await guests.join(invitation)
    return JoinReply(
        inviter=invitation.address.key.hex(),
        network=invitation.network.id,
        network_hash=invitation.network.hash.hex(),
        addresses=list(invitation.address.direct),
    )


def _guests(call: Call) -> "Guests":
    """Raises ``Conflict``."""
    guests = call.parts.membership.guests
    if guests is None and call.parts.config.mesh.enabled:
        raise Conflict("this node is not on the mesh yet: it loads its model first; try again soon", retry_after=5)
    if guests is None:
        raise Conflict("this node is on no mesh: start it with mesh.enabled = true")
    return guests


def _entry(known: Invites, invite: Invite) -> InviteEntry:
    used_by = known.used.get(invite.number)
    return InviteEntry(
        invite=invite.number.hex(),
        label=invite.label,
        made_ms=invite.made_ms,
        expires_ms=invite.expires_ms,
        state="used" if used_by else "revoked" if invite.number in known.revoked else "open",
        used_by=used_by.hex() if used_by else None,
    )
