"""One HTTP connection with bounds: uvicorn itself would wait for ever, and buffer without end, for a request's head."""

import asyncio
import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tirami.core.errors import HeadTooLarge, InvalidRequest, RateLimited, TiramiError
from tirami.node.http.replies import raw_refusal

MAX_HEAD = 64 * 1024
"""Bytes of request line and headers."""
MAX_CONNECTIONS = 4096
"""Connections at once, of everybody."""
HEAD_TIMEOUT_S = 20.0
"""Seconds from the connection, or from the first byte of a later request, to the end of its head."""


class BoundedConnection(HttpToolsProtocol):
    """Refuses heads that are too large and connections beyond the limit with the one envelope; ends those too slow."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(RateLimited("too many connections"))
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            super().data_received(data)
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"request line and headers have at most {MAX_HEAD} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._forget_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("this is not an HTTP request"))

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: TiramiError) -> None:
        self._forget_deadline()
        self.transport.write(raw_refusal(error, f"req-{secrets.token_hex(8)}"))
        self.transport.close()
