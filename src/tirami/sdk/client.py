"""The client, blocking and asynchronous."""

import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from tirami.api import BY_NAME
from tirami.api.schemas import ChatCompletionRequest
from tirami.core.errors import ConfigError
from tirami.sdk._operations import AsyncOperations, Operations
from tirami.sdk.errors import UnreadableReply, error_from

DEFAULT_URL = "http://127.0.0.1:3000"
TIMEOUT_S = 600.0
"""Answers of small machines take their time."""
CONNECT_S = 10.0
"""A node that is there takes a connection at once, however busy it is."""


def _settings(
    url: str | None, token: str | None, approval: str | None, ca: str | None, timeout_s: float
) -> dict[str, Any]:
    bearer = (token or os.environ.get("TIRAMI_API_TOKEN") or "").strip()
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    if approval:
        headers["x-tirami-approval"] = approval
    base = url or os.environ.get("TIRAMI_URL") or DEFAULT_URL
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
    settings: dict[str, Any] = {"base_url": base, "headers": headers, "timeout": timeout, "trust_env": False}
    ca = ca or os.environ.get("SSL_CERT_FILE")
    if not base.startswith("https:"):
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: reading whom to takes 30 ms
    elif ca:
        settings["verify"] = _trusting(ca)
    return settings


def _trusting(ca: str) -> ssl.SSLContext:
    """Nobody but the authorities, or the one certificate, in a PEM file."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca} holds no certificates to trust", param="ca") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a node's own certificate is enough, its issuer's not needed
    return context


def _request(
    name: str, path: dict[str, str], query: BaseModel | None, body: BaseModel | None, once: str | None = None
) -> dict[str, Any]:
    operation, escaped = BY_NAME[name], {part: quote(value, safe="") for part, value in path.items()}
    request: dict[str, Any] = {"method": operation.method, "url": operation.path.format(**escaped)}
    if query is not None:
        request["params"] = query.model_dump(exclude_none=True)
    if body is not None:
        request["json"] = body.model_dump(exclude_none=False, exclude_unset=True)
    if once is not None:
        request["headers"] = {"idempotency-key": once}
    return request


def _parsed(response: httpx2.Response, reply: Any) -> Any:
    if response.status_code >= 400 and not (response.status_code == 503 and response.url.path == "/readyz"):
        raise error_from(response.status_code, response.content, response.headers.get("retry-after"))
    if reply is bytes:
        return response.content
    try:
        return reply.model_validate_json(response.content)
    except ValidationError as error:
        raise UnreadableReply(
            f"the server answered {response.status_code} with something else than a {reply.__name__}; is it a node?",
            status=response.status_code,
        ) from error


def _streamed(body: ChatCompletionRequest) -> dict[str, Any]:
    request = _request("chat_completions", {}, None, body)
    request["json"]["stream"] = True
    return request


def _event(line: str) -> dict[str, Any] | None:
    """The chunk of one line of a stream; ``None`` for blank lines and the end mark. Raises what the server raised."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return None
    try:
        event: dict[str, Any] = json.loads(line[6:])
    except ValueError as error:
        raise UnreadableReply("the server streams something else than chunks; is it a node?") from error
    if "error" in event:
        raise error_from(int(event["error"].get("status", 500)), line[6:].encode())
    return event


class Tirami(Operations):
    """Blocking client of one node; use as a context manager or call :meth:`close`.

    Args:
        url: of the node; default ``TIRAMI_URL`` or the local node.
        token: bearer token; default ``TIRAMI_API_TOKEN`` or none.
        approval: id of the approval to show; a spend that needs it uses it up.
        timeout_s: longest silence of the node; to connect it has ``CONNECT_S`` at most.
        ca: PEM file of the only certificates to trust; default ``SSL_CERT_FILE`` or the system's.
        server_name: the name the node's certificate must be for; default the host of the URL.

    Every method raises the error of :mod:`tirami.core.errors` that the node answered with, ``UnreadableReply`` for an
    answer that is none of a node, and ``httpx2.TransportError`` when the node cannot be reached.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        approval: str | None = None,
        timeout_s: float = TIMEOUT_S,
        ca: str | None = None,
        server_name: str | None = None,
    ) -> None:
        self._http = httpx2.Client(**_settings(url, token, approval, ca, timeout_s))
        self._extensions = {"sni_hostname": server_name} if server_name else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _call(self, name: str, path: dict[str, str], query: Any, body: Any, reply: Any, once: str | None = None) -> Any:
        request = _request(name, path, query, body, once)
        return _parsed(self._http.request(extensions=self._extensions, **request), reply)

    def stream_chat(self, body: ChatCompletionRequest) -> Iterator[dict[str, Any]]:
        """Chunks of a streamed answer as they arrive; the last ones carry ``x_tirami``."""
        with self._http.stream(extensions=self._extensions, **_streamed(body)) as response:
            if response.status_code >= 400:
                raise error_from(response.status_code, response.read(), response.headers.get("retry-after"))
            for line in response.iter_lines():
                event = _event(line)
                if event is not None:
                    yield event


class AsyncTirami(AsyncOperations):
    """Asynchronous twin of :class:`Tirami`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        approval: str | None = None,
        timeout_s: float = TIMEOUT_S,
        ca: str | None = None,
        server_name: str | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(**_settings(url, token, approval, ca, timeout_s))
        self._extensions = {"sni_hostname": server_name} if server_name else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _call(
        self, name: str, path: dict[str, str], query: Any, body: Any, reply: Any, once: str | None = None
    ) -> Any:
        request = _request(name, path, query, body, once)
        return _parsed(await self._http.request(extensions=self._extensions, **request), reply)

    async def stream_chat(self, body: ChatCompletionRequest) -> AsyncIterator[dict[str, Any]]:
        """Chunks of a streamed answer as they arrive; the last ones carry ``x_tirami``."""
        async with self._http.stream(extensions=self._extensions, **_streamed(body)) as response:
            if response.status_code >= 400:
                raise error_from(response.status_code, await response.aread(), response.headers.get("retry-after"))
            async for line in response.aiter_lines():
                event = _event(line)
                if event is not None:
                    yield event
