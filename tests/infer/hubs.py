"""A model hub on the loopback interface that remembers what it was asked."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Asked:
    method: str
    path: str
    authorization: str | None


@dataclass
class Hub:
    """Serves ``files`` (path → content). The rest makes it misbehave.

    Attributes:
        status: answered to every HEAD instead of 200.
        etag: the digest it claims; the content's own when ``None``, none at all when empty.
        silent: it takes requests and never answers.
        cut: bytes of a file after which the connection breaks.
        elsewhere: where a GET is redirected to.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    etag: str | None = None
    silent: bool = False
    cut: int | None = None
    elsewhere: Callable[[str], str] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def methods(self) -> list[str]:
        return [request.method for request in self.asked]

    def __enter__(self) -> Self:
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                if self._listed():
                    self._headers(hub.status if self.path in hub.files else 404)

            def do_GET(self) -> None:
                if not self._listed():
                    return
                if hub.elsewhere is not None:
                    self.send_response(302)
                    self.send_header("Location", hub.elsewhere(self.path))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self._headers(200 if self.path in hub.files else 404)
                self.wfile.write(hub.files.get(self.path, b"")[: hub.cut])

            def _listed(self) -> bool:
                hub.asked.append(Asked(self.command, self.path, self.headers.get("Authorization")))
                if hub.silent:
                    hub._released.wait()
                    self.close_connection = True
                return not hub.silent

            def _headers(self, status: int) -> None:
                content = hub.files.get(self.path, b"")
                self.send_response(status)
                etag = hashlib.sha256(content).hexdigest() if hub.etag is None else hub.etag
                if etag:
                    self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler
