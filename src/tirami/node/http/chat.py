"""``/v1/chat/completions``: the OpenAI dialect over one paid answer."""

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from tirami.api.schemas import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionRequest,
    Choice,
    Usage,
    XForge,
    XTirami,
)
from tirami.core.errors import CancelledByClient, TiramiError
from tirami.infer import ModelCard
from tirami.ledger import LOCAL, Payer
from tirami.market import Settlement
from tirami.node.chat import FINISH, ChatCall, ChatStream
from tirami.node.http.caller import payer_of, ticket_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.replies import error_event

T = TypeVar("T")
SEND_TIMEOUT_S = 30
"""A client that does not take a chunk for this long is gone."""


@handles("chat_completions")
async def chat_completions(call: Call) -> ChatCompletion | Response:
    body: ChatCompletionRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    chat_call = ChatCall(
        payer=payer,
        model=body.model,
        any_name=call.forge,
        messages=[{"role": message.role, "content": message.text} for message in body.messages],
        max_tokens=body.most_tokens,
        temperature=0.7 if body.temperature is None else float(body.temperature),
        top_p=1.0 if body.top_p is None else float(body.top_p),
        top_k=body.top_k or 0,
        seed=body.seed,
        request_id=call.request_id,
        ticket=ticket_of(call.request),
    )
    if body.stream:
        stream = await _while_connected(call.request, call.parts.chat.stream(chat_call))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(_Frame(call, payer, stream.card), stream, include_usage=usage)
    answer = await _while_connected(call.request, call.parts.chat.answer(chat_call))
    return _Frame(call, payer, answer.card).completion(answer.text, answer.settlement)


class _Frame:
    """Everything the chunks and the body of one answer have in common."""

    def __init__(self, call: Call, payer: Payer, card: ModelCard) -> None:
        self.call = call
        self.id = f"chatcmpl-{secrets.token_hex(8)}"
        self.created = int(time.time())
        self.model = card.name
        self._payer = payer
        self._price = call.parts.load.price(card.active_parameters)

    def chunk(self, delta: dict[str, str], finish: str | None, **extra: object) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self.event(choices=[choice], **extra)

    def event(self, **content: object) -> bytes:
        body = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return b"data: " + msgspec.json.encode({**body, **content}) + b"\n\n"

    def usage(self, settlement: Settlement) -> Usage:
        reading = settlement.reading
        count = settlement.trade.completion_tokens if settlement.trade else 0
        return Usage(
            prompt_tokens=reading.prompt_tokens, completion_tokens=count, total_tokens=reading.prompt_tokens + count
        )

    def x_tirami(self, settlement: Settlement) -> XTirami:
        ledger, trade, reading = self.call.parts.ledger, settlement.trade, settlement.reading
        owner = self._payer.scope == LOCAL
        return XTirami(
            trm_cost=settlement.cost,
            effective_balance=ledger.balance(self._payer.key).effective,
            provider_effective_balance=ledger.own_use().effective if owner else None,
            trade_id=settlement.record_id.hex() if settlement.record_id else None,
            request_id=self.call.request_id,
            network=ledger.network.id,
            network_hash=ledger.network.hash.hex(),
            price_in_utrm=trade.price_in if trade else self._price.prompt,
            price_out_utrm=trade.price_out if trade else self._price.completion,
            flop=trade.flop if trade else 0,
            ttft_ms=reading.ttft_ms,
            wall_ms=reading.wall_ms,
            peak_memory_bytes=reading.peak_memory_bytes,
            counted_by=reading.counted_by.value,
            ids_complete=reading.ids_complete,
        )

    def extensions(self, settlement: Settlement) -> dict[str, XTirami | XForge]:
        """What an answer carries beside the OpenAI fields."""
        ours = self.x_tirami(settlement)
        if not self.call.forge:
            return {"x_tirami": ours}
        forge = XForge(cu_cost=ours.trm_cost, effective_balance=ours.effective_balance)
        return {"x_tirami": ours, "x_forge": forge}

    def completion(self, text: str, settlement: Settlement) -> ChatCompletion:
        choice = Choice(message=AssistantMessage(content=text), finish_reason=FINISH[settlement.reason])
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[choice],
            usage=self.usage(settlement),
            **self.extensions(settlement),
        )


class EventStream(Response):
    """Server-sent events of one answer. A client that leaves, or stops reading, ends the answer within one chunk."""

    media_type = "text/event-stream"

    def __init__(self, frame: _Frame, stream: ChatStream, *, include_usage: bool) -> None:
        super().__init__(headers={"cache-control": "no-cache"}, media_type=self.media_type)
        del self.headers["content-length"]
        self._frame = frame
        self._stream = stream
        self._include_usage = include_usage

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        body = asyncio.create_task(self._send_all(send), name="event-stream")
        gone = asyncio.create_task(_disconnected(receive), name="disconnect-watch")
        try:
            await asyncio.wait((body, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, body):
                task.cancel()
            await asyncio.gather(body, gone, return_exceptions=True)
        if not body.cancelled() and (error := body.exception()) is not None and not isinstance(error, TimeoutError):
            raise error

    async def _send_all(self, send: Send) -> None:
        """The slot is free and the bill is booked before the last chunk, which says so, is sent."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        settlement: Settlement | None = None
        failure: TiramiError | None = None
        try:
            async with self._stream:
                started = await self._stream.hand_over(_put(send, start))
                try:
                    if started:
                        await self._answer(send)
                except TiramiError as error:
                    failure = error
                settlement = await self._stream.settle()
        except TiramiError as error:
            failure = error
        if not started:
            await _put(send, start)
        await _put(send, _part(self._ending(settlement, failure)))
        await _put(send, _part(b"", more=False))

    async def _answer(self, send: Send) -> None:
        opening = self._frame.chunk({"role": "assistant", "content": ""}, None)
        await self._stream.hand_over(_put(send, _part(opening)))
        async for chunk in self._stream:
            event = self._frame.chunk({"content": chunk.text}, None)
            if not await self._stream.hand_over(_put(send, _part(event))):
                return

    def _ending(self, settlement: Settlement | None, failure: TiramiError | None) -> bytes:
        """Reason and cost, once they are known; the error, where an answer broke off; the end mark."""
        frame, ending = self._frame, b""
        if settlement is not None:
            extensions = {name: extension.model_dump() for name, extension in frame.extensions(settlement).items()}
            ending += frame.chunk({}, FINISH[settlement.reason], **extensions)
            if self._include_usage:
                ending += frame.event(choices=[], usage=frame.usage(settlement).model_dump(), **extensions)
        if failure is not None:
            ending += error_event(failure, frame.call.request_id, forge=frame.call.forge)
        return ending + b"data: [DONE]\n\n"


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _put(send: Send, message: Message) -> None:
    """Raises ``TimeoutError`` when the client does not take it."""
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send(message)


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` until it is done or the client goes away, which cancels it. Raises ``CancelledByClient``."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request.receive), name="disconnect-watch")
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    if task.cancelled():
        raise CancelledByClient("the client went away; nothing was charged")
    return task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
