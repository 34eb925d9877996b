"""Spends that wait for a person."""

from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import Body, Hex32, Reply, Trm, UnixMs


class ApprovalEntry(Reply):
    id: Hex32
    """To be shown in the header X-Tirami-Approval when the call is repeated."""
    node_id: str
    """The account that wants to spend; nobody else can use the permit."""
    label: str
    ceiling: Trm
    """The most the permitted spend may cost."""
    status: Literal["pending", "approved", "denied"]
    requested_ms: UnixMs
    expires_ms: UnixMs
    """Of the request while it waits, of the permit once it is approved; ten minutes each."""
    operator: str
    """Who decided: hash of the token or ``owner``, then the note of the call; empty while it waits."""


class ApprovalList(Reply):
    approvals: list[ApprovalEntry]
    """Waiting, approved and not yet used, denied; oldest first. Expired and used ones are gone."""


class DecisionRequest(Body):
    operator: Annotated[str, Field(max_length=128)] = ""
    """A note beside who called, which the journal knows from the token."""
