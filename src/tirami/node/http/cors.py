"""Which web pages may read what this node answers: exact origins from the settings, nobody else's.

A listed origin gains the right to read answers and nothing more: it is still no loopback owner (``node/http/caller``),
needs a token like anybody, and never sends cookies, because credentials are never allowed.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = b"GET, POST, DELETE"
_REQUEST_HEADERS = (
    b"authorization, content-type, x-tirami-node-id, x-tirami-approval, x-tirami-ticket, x-tirami-request-id,"
    b" x-request-id, x-tirami-compat, idempotency-key, openai-organization, openai-project"
)
_SDK_HEADERS = b"x-stainless-"
_MAX_REQUESTED = 2_048
_ANSWER_HEADERS = b"x-tirami-request-id, x-request-id, retry-after, x-should-retry, deprecation, link"
_MAX_AGE_S = b"600"


class Cors:
    """Answers preflights of the listed origins and marks answers to them; every other request passes untouched."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        granted = [(b"vary", b"origin")]
        if origin in self._origins:
            granted.append((b"access-control-allow-origin", origin))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await send({"type": "http.response.start", "status": 204, "headers": granted + _preflight(headers)})
                await send({"type": "http.response.body", "body": b""})
                return
            granted.append((b"access-control-expose-headers", _ANSWER_HEADERS))

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *granted]
            await send(message)

        await self._app(scope, receive, send_marked)


def _preflight(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What a page may send: our own headers, and those by which OpenAI's libraries describe themselves."""
    asked = headers.get(b"access-control-request-headers", b"")[:_MAX_REQUESTED].lower()
    names = [name.strip() for name in asked.split(b",")]
    described = [name for name in names if name.startswith(_SDK_HEADERS) and name.replace(b"-", b"").isalnum()]
    answer = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", b", ".join([_REQUEST_HEADERS, *described])),
        (b"access-control-max-age", _MAX_AGE_S),
    ]
    if headers.get(b"access-control-request-private-network") == b"true":
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer
