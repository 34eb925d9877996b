"""Tokens: shown once, kept by hash, rotated with grace."""

import secrets

from tirami.api import Scope
from tirami.api.schemas import (
    IssuedToken,
    RevokeReply,
    RevokeRequest,
    RotateRequest,
    TokenEntry,
    TokenList,
    TokenRequest,
)
from tirami.core.errors import AccountNotFound, Conflict, InvalidField, TokenNotFound
from tirami.core.keys import parse_node_id
from tirami.core.units import UnixMs
from tirami.ledger import Token, TokenExpirySet, TokenIssued, TokenRevoked
from tirami.ledger.entries import Fact
from tirami.node.http.caller import token_hash
from tirami.node.http.handlers import Call, handles

MOST = 10_000
"""Tokens that are good at once."""


@handles("tokens", shows_book=True)
async def tokens(call: Call) -> TokenList:
    live = _live(call)
    return TokenList(total=len(live), tokens=[TokenEntry(**_shown(token)) for token in live])


@handles("issue_token")
async def issue_token(call: Call) -> IssuedToken:
    body: TokenRequest = call.body
    try:
        scope = Scope.parse(body.scope)
    except ValueError as error:
        raise InvalidField(str(error), param="scope") from error
    account = b""
    if body.node_id is not None:
        account = parse_node_id(body.node_id)
        if account not in call.parts.ledger.state.settings.accounts:
            raise AccountNotFound("a token speaks for an account hosted here, or for none", param="node_id")
        if scope is Scope.ADMIN:
            raise InvalidField("an administrator's token is bound to no account", param="scope")
    return await _issue(call, account, scope, body.ttl_secs, body.label)


@handles("revoke_token")
async def revoke_token(call: Call) -> RevokeReply:
    body: RevokeRequest = call.body
    hashed = bytes.fromhex(body.token_hash_hex)
    known = hashed in call.parts.ledger.state.settings.tokens
    if known:
        await call.parts.ledger.record_facts(TokenRevoked(hashed))
    return RevokeReply(revoked=known, token_hash_hex=body.token_hash_hex)


@handles("rotate_token")
async def rotate_token(call: Call) -> IssuedToken:
    """A successor with the same rights and label, and the same lifetime where no other is named.

    The old token lives on for the grace period, never longer than before.
    """
    body: RotateRequest = call.body
    hashed, ledger = bytes.fromhex(body.token_hash_hex), call.parts.ledger
    old = ledger.state.settings.tokens.get(hashed)
    if old is None or old.expired(ledger.now()):
        raise TokenNotFound("no such token, or it has expired", param="token_hash_hex")
    ends = ledger.now() + 1000 * body.grace_secs
    if old.expires_ms:
        ends = min(ends, old.expires_ms)
    expiry = TokenExpirySet(hashed, ends)
    ttl_secs = body.ttl_secs
    if "ttl_secs" not in body.model_fields_set:
        ttl_secs = -(-(old.expires_ms - old.created_ms) // 1000) if old.expires_ms else None
    return await _issue(call, old.account, Scope.parse(old.scope), ttl_secs, old.label, expiry)


async def _issue(
    call: Call, account: bytes, scope: Scope, ttl_secs: int | None, label: str, *also: Fact
) -> IssuedToken:
    raw, now = secrets.token_hex(32), call.parts.ledger.now()
    if len(_live(call)) >= MOST:
        raise Conflict(f"there are {MOST} tokens already; revoke some first")
    expires = UnixMs(0 if ttl_secs is None else now + 1000 * ttl_secs)
    fact = TokenIssued(token_hash(raw), account, scope.wire, now, expires, label)
    await call.parts.ledger.record_facts(*also, fact)
    return IssuedToken(token=raw, **_shown(call.parts.ledger.state.settings.tokens[fact.hash]))


def _live(call: Call) -> list[Token]:
    now = call.parts.ledger.now()
    return [token for token in call.parts.ledger.state.settings.tokens.values() if not token.expired(now)]


def _shown(token: Token) -> dict[str, object]:
    return {
        "token_hash_hex": token.hash.hex(),
        "node_id": token.account.hex() or None,
        "scope": token.scope,
        "created_at_ms": token.created_ms,
        "expires_at_ms": token.expires_ms,
        "label": token.label,
    }
