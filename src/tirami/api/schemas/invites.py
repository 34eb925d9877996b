"""Invitations: one node brings another to its network."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import Body, Reply


class InviteRequest(Body):
    expires_secs: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    """How long it is good for."""


class InviteReply(Reply):
    """A single-use invitation. Whoever has the token can use it: it is a password until then."""

    token: str
    expires_ms: int
    node_id: str
    network: str
    network_hash: str
    addresses: list[str]
    """Where the newcomer will look for this node."""


class JoinRequest(Body):
    token: Annotated[str, Field(min_length=1, max_length=1_024)]


class JoinReply(Reply):
    """The invitation was taken."""

    inviter: str
    network: str
    network_hash: str
    addresses: list[str]
