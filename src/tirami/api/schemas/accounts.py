"""Hosted accounts and tokens."""

from typing import Annotated

from pydantic import Field

from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Hex32, Reply

Label = Annotated[str, Field(max_length=128)]
Lifetime = Annotated[
    Annotated[int, Field(ge=1, le=MAX_SAFE // 1000)] | None,
    Field(description="seconds; a week when absent, for ever when null"),
]


class AccountRequest(Body):
    label: Label = ""


class AccountEntry(Reply):
    account: str
    network_hash: str
    label: str
    created_ms: int
    disabled: bool
    effective_balance: int
    net_balance: int
    reserved: int
    line_until_ms: int | None = None
    """When its welcome line ends; ``None`` where it never had one."""


class AccountList(Reply):
    accounts: list[AccountEntry]


class TokenRequest(Body):
    scope: str
    node_id: AccountId | None = None
    """Hosted account the token speaks for; absent for a token of the node itself."""
    ttl_secs: Lifetime = 604_800
    label: Label = ""


class TokenEntry(Reply):
    token_hash_hex: str
    node_id: str | None
    scope: str
    created_at_ms: int
    expires_at_ms: int
    label: str


class IssuedToken(TokenEntry):
    token: str
    """Shown once; only its hash is kept."""
    warning: str = "This token is shown once. Keep it secret."


class TokenList(Reply):
    total: int
    tokens: list[TokenEntry]


class RevokeRequest(Body):
    token_hash_hex: Hex32


class RevokeReply(Reply):
    revoked: bool
    token_hash_hex: str


class RotateRequest(Body):
    token_hash_hex: Hex32
    grace_secs: Annotated[int, Field(ge=0, le=604_800)] = 60
    """How long the old token goes on; never longer than it would have."""
    ttl_secs: Annotated[
        Annotated[int, Field(ge=1, le=MAX_SAFE // 1000)] | None,
        Field(description="seconds; as long as the old token's life when absent, for ever when null"),
    ] = None
