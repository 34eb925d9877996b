"""The HTTP server: uvicorn in a task this object owns."""

import asyncio
import resource
import socket
import ssl
from types import TracebackType
from typing import NoReturn, Self

import uvicorn
from starlette.types import ASGIApp

from tirami.core.errors import PortTaken
from tirami.node.http.connection import MAX_CONNECTIONS, BoundedConnection
from tirami.node.http.handshakes import Handshakes
from tirami.node.http.tls import Tls

KEEP_ALIVE_S = 7
"""Seconds a connection may be idle. Longer than clients keep one (``httpx``, and with it the OpenAI client: 5 s): where
both sides end it in the same moment, a request is sent into nothing."""
DRAIN_S = 5


class _Server(uvicorn.Server):
    """Leaves signals to the program."""

    def install_signal_handlers(self) -> None: ...


class HttpServer:
    """Serves ``app`` while the context is open, over TLS when there is one.

    Raises ``PortTaken`` on entering, and whatever else keeps it from serving.
    """

    def __init__(self, app: ASGIApp, bind: str, port: int, tls: Tls | None = None) -> None:
        self._app = app
        self._tls = tls
        self._beside: list[asyncio.Task[None]] = []
        """What TLS needs beside uvicorn: handshakes, and the renewal of the certificate."""
        self._listener: socket.socket | None = None
        self._bind = bind.strip("[]")
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host = f"[{self._bind}]" if ":" in self._bind else self._bind
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        _allow_files(2 * MAX_CONNECTIONS)
        listener, tls = self._listen(), self._tls
        self._listener = listener
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=False,
            http=BoundedConnection,
            ws="none",
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server._serve([] if tls else [listener]), name="http")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 (uvicorn has only a flag)
            await asyncio.sleep(0.005)
        if self._task.done():
            listener.close()
            await self.ended()
        if tls is not None:
            handshakes = self._handshakes(self._server, listener, tls.context)
            self._beside.append(asyncio.create_task(handshakes.run(), name="tls-handshakes"))
            self._beside.append(asyncio.create_task(tls.follow(), name="tls-renewal"))
        return self

    async def ended(self) -> NoReturn:
        """Wait for as long as it serves; raises what ended it. Leaving the context is no such end."""
        assert self._task is not None
        done, _ = await asyncio.wait([self._task, *self._beside], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        raise RuntimeError("the HTTP server has ended by itself")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None and self._task is not None and self._listener is not None
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        if self._tls is not None:
            self._listener.close()  # else it is uvicorn's
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)

    def _handshakes(self, server: uvicorn.Server, listener: socket.socket, context: ssl.SSLContext) -> Handshakes:
        def serve() -> BoundedConnection:
            return BoundedConnection(server.config, server.server_state, server.lifespan.state)

        return Handshakes(listener, context, serve, server.server_state.connections)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._bind else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._bind, self._port))
        except OSError as error:
            listener.close()
            raise PortTaken(
                f"{self._bind}:{self._port} cannot be bound: {error.strerror}; choose another with --port",
                param="api.port",
            ) from error
        listener.listen(2048)
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        return listener


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files: with the usual 1 024, strangers' connections would use up the engines'."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
