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
    range: str | None = None
    if_range: str | None = None


@dataclass
class Hub:
    """Serves ``files`` (path → content). The rest makes it misbehave.

    Attributes:
        status: answered to every HEAD instead of 200.
        etag: the digest it claims; the content's own when ``None``, none at all when empty.
        silent: it takes requests and never answers.
        cut: bytes of a body after which the connection breaks.
        cuts: the same for the next bodies, one each, before ``cut``.
        ranges: whether it gives pieces of a file.
        elsewhere: where a GET is redirected to.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    etag: str | None = None
    silent: bool = False
    cut: int | None = None
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
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
                start, status = self._wanted(), 200 if self.path in hub.files else 404
                content = hub.files.get(self.path, b"")
                if start >= len(content) > 0:
                    status, start = 416, len(content)
                elif start:
                    status = 206
                self._headers(status, start)
                self.wfile.write(content[start:][: hub.cuts.pop(0) if hub.cuts else hub.cut])

            def _wanted(self) -> int:
                """Where the body begins."""
                asked, only_if = self.headers.get("Range"), self.headers.get("If-Range")
                if not hub.ranges or asked is None or (only_if is not None and only_if != f'"{self._etag()}"'):
                    return 0
                return int(asked.removeprefix("bytes=").removesuffix("-"))

            def _etag(self) -> str:
                content = hub.files.get(self.path, b"")
                return hashlib.sha256(content).hexdigest() if hub.etag is None else hub.etag

            def _listed(self) -> bool:
                said = (self.headers.get(name) for name in ("Authorization", "Range", "If-Range"))
                hub.asked.append(Asked(self.command, self.path, *said))
                if hub.silent:
                    hub._released.wait()
                    self.close_connection = True
                return not hub.silent

            def _headers(self, status: int, start: int = 0) -> None:
                content = hub.files.get(self.path, b"")
                self.send_response(status)
                if etag := self._etag():
                    self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler
