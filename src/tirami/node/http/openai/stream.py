"""Server-sent events of one request, and what ends it when the client goes away."""

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from tirami.core.errors import CancelledByClient, TiramiError
from tirami.infer import Chunk
from tirami.market import Settlement
from tirami.node.answer import ChatStream
from tirami.node.choice import Choice
from tirami.node.http.departure import put, until_gone

T = TypeVar("T")


class Narrator(Protocol):
    """Tells an answer in one dialect, in bytes ready to be sent; ``b""`` says nothing."""

    def opening(self, index: int) -> bytes:
        """Before the first chunk of a choice."""

    def piece(self, index: int, chunk: Chunk) -> bytes: ...

    def held(self, index: int) -> int:
        """Characters at the end of a choice so far that are kept back, to be told with a later piece or at the end."""

    def closing(self, index: int) -> bytes:
        """After the last chunk of a choice, before anything is settled."""

    def ending(self, settlements: Sequence[Settlement | None], failure: TiramiError | None) -> bytes:
        """Reasons and cost, once they are known; the error, where the answer broke off; the end mark.

        ``settlements`` is empty when nothing could be settled.
        """


class EventStream(Response):
    """A client that leaves, or stops reading, ends the answer within one chunk."""

    media_type = "text/event-stream"

    def __init__(self, narrator: Narrator, stream: ChatStream) -> None:
        super().__init__(headers={"cache-control": "no-cache"}, media_type=self.media_type)
        del self.headers["content-length"]
        self._narrator = narrator
        self._stream = stream

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        body = await until_gone(receive, self._send_all(send))
        if not body.cancelled() and (error := body.exception()) is not None and not isinstance(error, TimeoutError):
            raise error

    async def _send_all(self, send: Send) -> None:
        """The slots are free and the bill is booked before the last chunk, which says so, is sent."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        settlements: Sequence[Settlement | None] = ()
        failure: TiramiError | None = None
        started = False
        try:
            async with self._stream:
                started = await self._stream.choices[0].hand_over(put(send, start))
                try:
                    if started:
                        await self._stream.run(lambda choice: self._tell(choice, send))
                except TiramiError as error:
                    failure = error
                settlements = await self._stream.settle_all()
        except TiramiError as error:
            failure = error
        if not started:
            await put(send, start)
        await put(send, _part(self._narrator.ending(settlements, failure)))
        await put(send, _part(b"", more=False))

    async def _tell(self, choice: Choice, send: Send) -> None:
        narrator, index = self._narrator, choice.index
        if opening := narrator.opening(index):
            await choice.hand_over(put(send, _part(opening)))
        async for chunk in choice:
            event = narrator.piece(index, chunk)
            if event and not await choice.hand_over(put(send, _part(event))):
                return
            choice.withhold(narrator.held(index))
        closing = narrator.closing(index)
        if choice.interrupted is None and (not closing or await choice.hand_over(put(send, _part(closing)))):
            choice.deliver()


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` until it is done or the client goes away, which cancels it. Raises ``CancelledByClient``."""
    task = await until_gone(request.receive, work)
    if task.cancelled():
        raise CancelledByClient("the client went away before its answer was there")
    return task.result()
