"""A relay between a client and a node: counts requests, and cuts connections before the first byte of a reply."""

import socket
import socketserver
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit

PIECE = 65_536


class Relay(socketserver.ThreadingTCPServer):
    """Forwards HTTP/1.1 to the node at ``url``. Made by :func:`relay`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        target = urlsplit(url)
        assert target.hostname is not None and target.port is not None
        self.target = target.hostname, target.port
        self.posts = 0
        """POST requests seen so far."""
        self.cuts = 0
        """How many of the next POST requests reach the node and lose their connection before it replies."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def take_cut(self) -> bool:
        if self.cuts:
            self.cuts -= 1
            return True
        return False


class _Connection(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with closing(socket.create_connection(self.server.target)) as node, suppress(OSError):
            back = Thread(target=_pump, args=(node, self.request), daemon=True)
            back.start()
            while head := self._request(node):
                if head.startswith(b"POST ") and self.server.take_cut():
                    break
            _close(node)
            _close(self.request)
            back.join()

    def _request(self, node: socket.socket) -> bytes:
        """Forward one request; returns its head, or nothing at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.request.recv(PIECE)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        while len(body) < length:
            body += self.request.recv(PIECE)
        self.server.posts += head.startswith(b"POST ")  # before its reply can be there
        node.sendall(head + b"\r\n\r\n" + body)
        return head


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    _close(source)
    _close(sink)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(url: str) -> Iterator[Relay]:
    """A running relay to the node at ``url``."""
    with Relay(url) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
