"""Who is calling: decided from token, address and headers, never from a body (RULINGS, The owner)."""

import hmac
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request

from tirami.api import Scope
from tirami.core.errors import ForeignPayer, InsufficientScope, InvalidRequest, InvalidToken, MissingToken
from tirami.core.keys import PublicKey, parse_node_id
from tirami.ledger import Payer
from tirami.node.parts import Parts

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_FORWARDED = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "cf-connecting-ip",
)  # fmt: skip
PAYER_HEADER = "x-tirami-node-id"
TICKET_HEADER = "x-tirami-ticket"
APPROVAL_HEADER = "x-tirami-approval"
_APPROVAL = re.compile("[0-9a-f]{64}")


class CallerKind(StrEnum):
    OWNER = "owner"
    """The person at this machine: loopback, no token."""
    TOKEN = "token"
    ADMIN = "admin"
    """Holder of the admin token file."""
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Caller:
    """``account`` is the hosted account a token is bound to; ``key`` names the caller for rate limits."""

    kind: CallerKind
    scope: Scope
    account: PublicKey | None
    key: bytes

    @property
    def id(self) -> str:
        """The hash of its token; ``owner`` for the person at this machine and the holder of the token file."""
        return self.key.hex() if self.kind is CallerKind.TOKEN else "owner"

    def noting(self, note: str) -> str:
        """Who did something, for the journal: who it was, then what they call themselves, which proves nothing."""
        return f"{self.id}: {note}" if note else self.id

    def require(self, scope: Scope) -> None:
        """Raises ``MissingToken`` for nobody, ``InsufficientScope`` for too little."""
        if self.scope >= scope:
            return
        if self.kind is CallerKind.NOBODY:
            raise MissingToken("this operation needs a token: Authorization: Bearer …")
        raise InsufficientScope(f"this needs scope {scope.wire}; the caller has {self.scope.wire}", needed=scope.wire)


def token_hash(raw: str) -> bytes:
    """SHA-256 over the token's text: all the node keeps of it."""
    return sha256(raw.encode()).digest()


def identify(request: Request, parts: Parts) -> Caller:
    """The caller of a request. Raises ``InvalidToken`` for an unknown, expired or malformed bearer."""
    address = request.client.host if request.client else ""
    bearer = _bearer(request)
    if bearer is None or (bearer == "local" and _is_local(request, address)):
        if parts.config.auth.loopback_owner and _is_local(request, address):
            return Caller(CallerKind.OWNER, Scope.INFERENCE, None, b"owner")
        return Caller(CallerKind.NOBODY, Scope.PUBLIC, None, address.encode())
    hashed = token_hash(bearer)
    if hmac.compare_digest(hashed, token_hash(parts.admin_token)):
        return Caller(CallerKind.ADMIN, Scope.ADMIN, None, hashed)
    token = parts.ledger.state.settings.tokens.get(hashed)
    if token is None or token.expired(parts.ledger.now()):
        raise InvalidToken("this token is unknown or expired")
    account = PublicKey(token.account) if token.account else None
    return Caller(CallerKind.TOKEN, Scope.parse(token.scope), account, hashed)


def payer_of(request: Request, caller: Caller, parts: Parts) -> Payer:
    """The key that pays for this call: the token's account, or the owner; a header may only confirm or, for an
    administrator, choose. Another one may show an approval. Raises ``ForeignPayer``, ``AccountNotFound``,
    ``InvalidRequest``."""
    return replace(_payer_of(request, caller, parts), permit=permit_of(request))


def permit_of(request: Request) -> bytes:
    """The approval this call shows, empty for none. Raises ``InvalidRequest``."""
    text = request.headers.get(APPROVAL_HEADER)
    if text is None:
        return b""
    if not _APPROVAL.fullmatch(text):
        raise InvalidRequest("an approval is named by 64 hexadecimal digits", param=APPROVAL_HEADER)
    return bytes.fromhex(text)


def _payer_of(request: Request, caller: Caller, parts: Parts) -> Payer:
    named = request.headers.get(PAYER_HEADER)
    wanted = _named_payer(named) if named is not None else None
    if caller.account is not None:
        if wanted is not None and wanted != caller.account:
            raise ForeignPayer("this token may not spend for that account", param=PAYER_HEADER)
        return parts.payers.hosted(caller.account)
    if wanted is None or wanted == parts.payers.owner.key:
        return parts.payers.owner
    if caller.scope < Scope.ADMIN:
        raise ForeignPayer("billing an account needs that account's token", param=PAYER_HEADER)
    return parts.payers.hosted(wanted)


def ticket_of(request: Request) -> bytes | None:
    """Id of the reservation a call names, if any. Raises ``InvalidRequest``."""
    named = request.headers.get(TICKET_HEADER)
    if named is None:
        return None
    try:
        return bytes.fromhex(named)
    except ValueError:
        raise InvalidRequest("a ticket is 32 hexadecimal digits", param=TICKET_HEADER) from None


def _named_payer(text: str) -> PublicKey:
    try:
        return parse_node_id(text)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=PAYER_HEADER) from error


def _bearer(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    kind, _, raw = header.partition(" ")
    if kind.lower() != "bearer" or not raw.strip() or len(raw) > 512:
        raise InvalidToken("the Authorization header must be: Bearer <token>")
    return raw.strip()


def _is_local(request: Request, address: str) -> bool:
    """Loopback peer, loopback Host, no proxy in between, and no foreign page: an image tag there sends no Origin."""
    origin, foreign = request.headers.get("origin"), request.headers.get("sec-fetch-site") == "cross-site"
    return (
        address in _LOOPBACK
        and _host(f"//{request.headers.get('host', '')}") in _LOOPBACK
        and (not foreign if origin is None else _host(origin) in _LOOPBACK)
        and not any(header in request.headers for header in _FORWARDED)
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
