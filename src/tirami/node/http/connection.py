"""One HTTP connection with bounds: uvicorn itself waits for ever, and buffers without end, for what is no body."""

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
"""Seconds from the connection, or from the first byte after a reply, to the end of the next head; from the end of the
reply to a head that began while it was written."""
STALL_S = 40.0
"""Seconds a client may take nothing of a reply; a streamed answer is given up earlier, and settled."""
FRAMING = 8
"""Bytes of framing and trailers a chunked body may have for each byte of its own, and ``MAX_HEAD`` more."""


class BoundedConnection(HttpToolsProtocol):
    """Refuses heads that are too large and connections beyond the limit with the one envelope; ends those too slow.

    A request that does not wait for the reply before it is not served: the connection ends with that reply.

    At every moment something bounds it: a handler that runs, uvicorn's keep-alive timer, or a timer kept here.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._beside = 0  # bytes of this request that are no body
        self._body = 0
        self._head_read = False
        self._deaf = False  # to whoever does not wait for a reply
        self._unsent = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(RateLimited("too many connections"))
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._moves()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._beside += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._beside > MAX_HEAD + FRAMING * self._body:
            self._refuse(HeadTooLarge(f"request line and headers have at most {MAX_HEAD} bytes"))
        elif self._deadline is None and not self._replying:
            self._expect_head()  # uvicorn has just put its keep-alive timer away

    def on_message_begin(self) -> None:
        if self._head_read:  # a later request; what it shares a read with is not counted
            self._beside = self._body = self._unsent = 0
            self._head_read = False
        super().on_message_begin()
        if self._deadline is None and not self._replying:  # else it begins to count when the reply has ended
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_read:  # nobody reads trailers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._forget_deadline()
        self._beside, self._head_read = 0, True
        if self._deaf or self._replying:  # uvicorn tells only the newest request that its client has left
            self._deaf, self.cycle.keep_alive = True, False
            return
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._head_read and not self.transport.is_closing():  # a further one begun meanwhile
            self._unset_keepalive_if_required()
            if self._deadline is None:
                self._expect_head()

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        self._beside = max(0, self._beside - len(body))  # one read may hold the end of a head and a body
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._deaf:
            super().on_message_complete()

    def pause_writing(self) -> None:
        self._moves()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._give_up()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("this is not an HTTP request"))

    @property
    def _replying(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _moves(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        """Close, and do not wait for a client that reads nothing of what it was sent."""
        self._forget_deadline()
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self.transport.close()
        elif unsent == self._unsent:
            self.transport.abort()
        else:
            self._unsent = unsent
            self._expect_head()

    def _refuse(self, error: TiramiError) -> None:
        self._forget_deadline()
        if self._replying and self.cycle.response_started:
            self.transport.abort()  # it would stand in the middle of another reply
            return
        self.transport.write(raw_refusal(error, f"req-{secrets.token_hex(8)}"))
        self.transport.close()
