"""From results and errors to bytes: the one JSON error envelope and its headers."""

from http import HTTPStatus

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from tirami.core.errors import KeystoreError, TiramiError

_NO_RETRY = frozenset({402, 403, 423})


def json_reply(reply: BaseModel, status: int = 200) -> Response:
    return Response(reply.model_dump_json(exclude_none=False), status, media_type="application/json")


def error_reply(error: TiramiError, request_id: str, *, forge: bool = False) -> Response:
    """``forge``: the code is the status, as clients of the original expect (RULINGS, HTTP)."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status in _NO_RETRY or isinstance(error, KeystoreError):
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(_envelope(error, request_id, forge), error.status, headers=headers, media_type="application/json")


def error_event(error: TiramiError, request_id: str, *, forge: bool = False) -> bytes:
    """An error after the headers of a stream have gone out."""
    return b"data: " + _envelope(error, request_id, forge) + b"\n\n"


def raw_refusal(error: TiramiError, request_id: str) -> bytes:
    """A whole HTTP response, for a connection that never became a request."""
    body = _envelope(error, request_id, forge=False)
    head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


def _envelope(error: TiramiError, request_id: str, forge: bool) -> bytes:
    envelope = error.envelope(request_id)
    if forge:
        envelope["error"]["code"] = error.status
    return msgspec.json.encode(envelope)
