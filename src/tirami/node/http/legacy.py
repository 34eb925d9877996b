"""Paths of the original: the same handlers, and headers that say where to go (R-03; RFC 8594, RFC 8288)."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tirami.api.legacy import SUNSET, successor

Endpoint = Callable[[Request], Awaitable[Response]]


def deprecated(endpoint: Endpoint) -> Endpoint:
    """``endpoint`` under a legacy path: answers the same, and says that this path will go."""

    async def answer(request: Request) -> Response:
        response = await endpoint(request)
        response.headers["deprecation"] = "true"
        response.headers["sunset"] = SUNSET
        response.headers["link"] = f'<{quote(successor(request.scope["path"]))}>; rel="successor-version"'
        return response

    return answer
