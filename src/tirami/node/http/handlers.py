"""Handlers register through the table of operations; a server does not start with one missing or one too many."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tirami.api import BY_NAME, OPERATIONS
from tirami.core.errors import NotFound
from tirami.core.keys import Digest
from tirami.node.http.caller import Caller
from tirami.node.parts import Parts

COMPAT_HEADER = "x-tirami-compat"


def speaks_forge(request: Request, parts: Parts) -> bool:
    """Whether this caller expects the original's dialect: by the node's configuration, its own header or query."""
    asked = request.headers.get(COMPAT_HEADER) or request.query_params.get("compat", "")
    return parts.config.api.compat == "forge" or asked.lower() == "forge"


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way into a handler: already authenticated, limited and checked."""

    parts: Parts
    request: Request
    caller: Caller
    request_id: str
    query: Any
    body: Any
    forge: bool
    """Whether to answer in the original's dialect."""

    def digest(self, error: type[NotFound]) -> Digest:
        """The 32-byte ``{id}`` of the path; anything else is simply not found."""
        text = self.request.path_params["id"]
        try:
            return Digest(bytes.fromhex(text) if len(text) == 64 else b"")
        except ValueError:
            raise error(f"no {text!r} here", param="id") from None


Handler = Callable[[Call], Awaitable[Any]]
HANDLERS: dict[str, Handler] = {}


def handles(name: str, *, shows_book: bool = False) -> Callable[[Handler], Handler]:
    """Register the handler of an operation of the table.

    ``shows_book`` is for one that only reads: what it read is on disk before anybody is shown it, and what the disk
    refused meanwhile is read again.
    """

    def register(handler: Handler) -> Handler:
        if name not in BY_NAME:
            raise LookupError(f"{name!r} is not in the table of operations")
        if name in HANDLERS:
            raise LookupError(f"{name!r} has two handlers")
        HANDLERS[name] = _durable(handler) if shows_book else handler
        return handler

    return register


def _durable(handler: Handler) -> Handler:
    async def read(call: Call) -> Any:
        while True:
            result = await handler(call)
            if await call.parts.ledger.durable():
                return result

    return read


def check_complete() -> None:
    """Raises ``LookupError`` naming operations without a handler."""
    missing = [operation.name for operation in OPERATIONS if operation.name not in HANDLERS]
    if missing:
        raise LookupError(f"operations without a handler: {', '.join(missing)}")
