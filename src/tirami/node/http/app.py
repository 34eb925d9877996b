"""The ASGI application: request id, authentication, limits, shapes, handler, envelope; in this order."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import cache

import structlog
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from tirami.api import OPERATIONS, Dialect, Operation, Scope, openapi
from tirami.api.legacy import legacy_path
from tirami.core.errors import InvalidToken, MethodNotAllowed, RouteNotFound, SpendDenied, TiramiError
from tirami.node.http import (
    accounts,
    agent,
    backup,
    economy,
    frauds,
    health,
    invites,
    keys,
    log,
    manifest,
    mesh,
    metrics,
    models,
    openai,
    pricing,
    routing,
    safety,
    settlement,
    supply,
    tokens,
    usage,
)
from tirami.node.http.caller import Caller, CallerKind, identify
from tirami.node.http.cors import Cors
from tirami.node.http.handlers import HANDLERS, Call, Handler, check_complete, speaks_forge
from tirami.node.http.legacy import deprecated
from tirami.node.http.limits import CallerLimits
from tirami.node.http.parsing import checked, parse_json, query_of, read_body
from tirami.node.http.replies import error_reply, json_reply
from tirami.node.meter import NodeMeter
from tirami.node.parts import Parts
from tirami.node.version import VERSION

AREAS = (
    accounts, agent, backup, economy, frauds, health, invites, keys, log, manifest, mesh, metrics, models, openai,
    pricing, routing, safety, settlement, supply, tokens, usage,
)  # fmt: skip
"""Importing an area registers its handlers."""
REQUEST_IDS = (b"x-tirami-request-id", b"x-request-id")
"""Ours, and the one OpenAI's clients read; a client may send either, ours before theirs."""
_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")
WRONG_TOKENS_PER_SECOND = 10
_log = structlog.get_logger()


def build_app(parts: Parts) -> ASGIApp:
    """The application over a node. Raises ``LookupError`` when table and handlers disagree."""
    check_complete()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    limits = CallerLimits(parts.config.api.rate_per_second, parts.clock)
    wrong_tokens = CallerLimits(WRONG_TOKENS_PER_SECOND, parts.clock)
    for operation in OPERATIONS:
        endpoint = _endpoint(operation, HANDLERS[operation.name], parts, limits, wrong_tokens)
        path = operation.path.replace("{model}", "{model:path}")  # makers put slashes into the names of models
        app.add_route(path, endpoint, methods=[operation.method], include_in_schema=False)
        if (old := legacy_path(operation.path)) is not None:
            app.add_route(old, deprecated(endpoint), methods=[operation.method], include_in_schema=False)
    app.add_route("/openapi.json", _openapi, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(HTTPException, _routing_error)
    origins = parts.config.api.cors_origins
    return RequestIds(Cors(app, origins) if origins else app, parts.meter)


def _endpoint(
    operation: Operation, handler: Handler, parts: Parts, limits: CallerLimits, wrong_tokens: CallerLimits
) -> Callable[[Request], Awaitable[Response]]:
    config = parts.config.api
    limit = config.openai_body_limit if operation.dialect is Dialect.OPENAI else config.body_limit

    async def endpoint(request: Request) -> Response:
        request_id, forge = request.scope["tirami.request_id"], speaks_forge(request, parts)
        request.scope["tirami.operation"] = operation.name
        try:
            caller = _admitted(request, operation, parts, wrong_tokens)
            if operation.limited:
                limits.take(caller.key)
            query = None if operation.query is None else query_of(operation.query, request, operation)
            body = None
            if operation.body is not None:
                body = checked(operation.body, parse_json(await read_body(request, limit)), operation)
            result = await handler(Call(parts, request, caller, request_id, query, body, forge))
        except TiramiError as error:
            if isinstance(error, SpendDenied):
                await parts.ledger.durable()  # what a denial leaves behind is told when it cannot be lost any more
            return error_reply(error, request_id, forge=forge)
        except Exception:
            _log.exception("internal_error", operation=operation.name)
            internal = TiramiError("internal error; the log names it by this request id")
            return error_reply(internal, request_id, forge=forge)
        return json_reply(result) if isinstance(result, BaseModel) else result

    return endpoint


def _admitted(request: Request, operation: Operation, parts: Parts, wrong_tokens: CallerLimits) -> Caller:
    """The caller, if its scope suffices. Failures are counted by address and never touch a good token."""
    if operation.scope is Scope.PUBLIC:
        return Caller(CallerKind.NOBODY, Scope.PUBLIC, None, b"public")
    try:
        caller = identify(request, parts)
    except InvalidToken:
        wrong_tokens.take(request.client.host.encode() if request.client else b"")
        raise
    caller.require(operation.scope)
    return caller


@cache
def _document() -> bytes:
    """Made when somebody asks: it takes 0.15 s, and every schema there is."""
    return bytes(JSONResponse(openapi(VERSION)).body)


async def _openapi(_: Request) -> Response:
    return Response(await asyncio.to_thread(_document), media_type="application/json")


async def _routing_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    request_id = request.scope["tirami.request_id"]
    if error.status_code == 405:
        reply = error_reply(MethodNotAllowed(f"{request.method} is not allowed here"), request_id)
        reply.headers["allow"] = (error.headers or {}).get("Allow", "")
        return reply
    return error_reply(RouteNotFound(f"no route {request.url.path}"), request_id)


class RequestIds:
    """Gives every request an id, echoes it, binds it to the log and writes one line and counts it when it is done."""

    def __init__(self, app: ASGIApp, meter: NodeMeter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["tirami.request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *((name, request_id.encode()) for name in REQUEST_IDS)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                self._meter.requested(scope.get("tirami.operation", "none"), status)
                _log.info("request", method=scope["method"], path=scope["path"], status=status)


def _request_id(scope: AsgiScope) -> str:
    for wanted in REQUEST_IDS:
        for name, value in scope["headers"]:
            if name == wanted and _VISIBLE.fullmatch(text := value.decode("latin-1")):
                return str(text)
    return f"req-{secrets.token_hex(8)}"
