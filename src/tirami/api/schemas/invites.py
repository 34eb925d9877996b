"""Invitations: one node brings another to its network."""

from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import Body, Reply


class InviteRequest(Body):
    expires_secs: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    """How long it is good for."""
    label: Annotated[str, Field(max_length=200)] = ""
    """A note for people, in the list of invitations."""


class InviteReply(Reply):
    """A single-use invitation. Whoever has the token can use it: it is a password until then."""

    token: str
    """Shown once: it is kept nowhere."""
    invite: str
    """Its number, by which it is listed and taken back."""
    expires_ms: int
    node_id: str
    network: str
    network_hash: str
    addresses: list[str]
    """Where the newcomer will look for this node."""


class InviteEntry(Reply):
    """An invitation that has not expired, without its secret."""

    invite: str
    label: str
    made_ms: int
    expires_ms: int
    state: Literal["open", "used", "revoked"]
    used_by: str | None
    """The key that came with it."""


class InviteList(Reply):
    invites: list[InviteEntry]
    """Oldest first."""


class InviteRevocation(Body):
    invite: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Its number, 16 bytes as 32 lowercase hexadecimal digits."""


class JoinRequest(Body):
    token: Annotated[str, Field(min_length=1, max_length=1_024)]


class JoinReply(Reply):
    """The invitation was taken."""

    inviter: str
    network: str
    network_hash: str
    addresses: list[str]
