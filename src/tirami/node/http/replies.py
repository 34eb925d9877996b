"""From results and errors to bytes: the one JSON error envelope and its headers."""

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from tirami.core.errors import TiramiError

_NO_RETRY = frozenset({402, 403, 423})


def json_reply(reply: BaseModel, status: int = 200) -> Response:
    return Response(reply.model_dump_json(exclude_none=False), status, media_type="application/json")


def error_reply(error: TiramiError, request_id: str) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status in _NO_RETRY:
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = msgspec.json.encode(error.envelope(request_id))
    return Response(body, error.status, headers=headers, media_type="application/json")


def error_event(error: TiramiError, request_id: str) -> bytes:
    """An error after the headers of a stream have gone out."""
    return b"data: " + msgspec.json.encode(error.envelope(request_id)) + b"\n\n"
