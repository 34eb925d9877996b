"""``/v1/responses``: text, functions and schemas. Nothing is kept on this node."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from tirami.api.schemas import (
    IncompleteDetails,
    OutputCall,
    OutputMessage,
    OutputText,
    ReasoningTokens,
    ResponseError,
    ResponseReply,
    ResponseRequest,
    ResponseUsage,
)
from tirami.core.errors import TiramiError
from tirami.infer import CallDelta, CallReader, Chunk, FinishReason, TextDelta
from tirami.market import Settlement
from tirami.node.answer import written
from tirami.node.chat import ChatCall
from tirami.node.http.caller import payer_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.asking import TEMPERATURE, TOP_P, reader_of, response_call
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.naming import named
from tirami.node.http.openai.stream import EventStream, while_connected

NAMES = {"messages": "input", "max_tokens": "max_output_tokens", "response_format": "text.format"}
"""This dialect's words for what a chat says."""


@handles("responses")
async def responses(call: Call) -> ResponseReply | Response:
    body: ResponseRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    asked = response_call(call, payer, body)
    if body.stream:
        with named(**NAMES):
            stream = await while_connected(call.request, call.parts.chat.stream(asked))
        frame = Frame(call, stream.ticket, "resp_")
        return EventStream(ResponseNarrator(frame, body, reader_of(asked)), stream)
    with named(**NAMES):
        answer = await while_connected(call.request, call.parts.chat.answer(asked, partial(_told, asked)))
    return reply(Frame(call, answer.ticket, "resp_"), body, answer.told[0], answer.settlements[0])


@dataclass(slots=True)
class Item:
    """An item of the output: a message, or a call where there is a ``name``."""

    id: str
    call_id: str = ""
    name: str | None = None
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def shown(self, status: str, *, empty: bool = False) -> OutputMessage | OutputCall:
        """As clients see it; ``empty`` before anything is said."""
        text = "" if empty else self.text
        if self.name is not None:
            return OutputCall(id=self.id, call_id=self.call_id, name=self.name, arguments=text, status=status)
        return OutputMessage(id=self.id, status=status, content=[] if empty else [OutputText(text=text)])


class Output:
    """Items as they grow."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def add(self, delta: TextDelta | CallDelta) -> bool:
        """Whether this began a new item."""
        last = self.items[-1] if self.items else None
        if isinstance(delta, TextDelta):
            begun = last is None or last.name is not None
            if begun:
                self.items.append(Item(f"msg_{secrets.token_hex(12)}"))
            self.items[-1].pieces.append(delta.text)
            return begun
        if delta.id is not None:
            self.items.append(Item(f"fc_{secrets.token_hex(12)}", delta.id, delta.name))
        self.items[-1].pieces.append(delta.arguments)
        return delta.id is not None


def _told(asked: ChatCall, chunks: Sequence[Chunk]) -> Output:
    output = Output()
    for delta in _deltas(reader_of(asked), written(chunks), last=True):
        output.add(delta)
    return output


def reply(
    frame: Frame,
    body: ResponseRequest,
    output: Output,
    settlement: Settlement | None,
    failure: TiramiError | None = None,
) -> ResponseReply:
    """The whole response; in progress while there is neither settlement nor failure."""
    asked = _asked(frame, body)
    if settlement is None and failure is None:
        return ResponseReply(status="in_progress", output=[], **asked)
    usage: ResponseUsage | None = None
    beside: dict[str, Any] = {}
    if settlement is not None:
        counted, beside = frame.usage([settlement], [0]), frame.extensions([settlement])
        details = counted.completion_tokens_details
        usage = ResponseUsage(
            input_tokens=counted.prompt_tokens,
            output_tokens=counted.completion_tokens,
            output_tokens_details=ReasoningTokens(reasoning_tokens=details.reasoning_tokens if details else 0),
            total_tokens=counted.total_tokens,
        )
    outcome = _outcome(settlement.reason if settlement is not None else FinishReason.FAILED, failure)
    shown = "completed" if outcome["status"] == "completed" else "incomplete"
    return ResponseReply(output=[item.shown(shown) for item in output.items], usage=usage, **outcome, **asked, **beside)


def _asked(frame: Frame, body: ResponseRequest) -> dict[str, Any]:
    """What a response repeats of its request."""
    shape, chosen = body.text.format if body.text else None, body.tool_choice
    return {
        "id": frame.id,
        "created_at": frame.created,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "model": frame.model,
        "temperature": TEMPERATURE if body.temperature is None else float(body.temperature),
        "text": {"format": shape.model_dump(by_alias=True, exclude_none=True) if shape else {"type": "text"}},
        "tool_choice": "auto" if chosen is None else chosen if isinstance(chosen, str) else chosen.model_dump(),
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_p": TOP_P if body.top_p is None else float(body.top_p),
    }


def _outcome(reason: FinishReason, failure: TiramiError | None) -> dict[str, Any]:
    if failure is not None:
        return {"status": "failed", "error": ResponseError(code="server_error", message=failure.message)}
    if reason is FinishReason.STOP:
        return {"status": "completed"}
    if reason is FinishReason.LENGTH:
        return {"status": "incomplete", "incomplete_details": IncompleteDetails(reason="max_output_tokens")}
    return {"status": "failed", "error": ResponseError(code="server_error", message=f"it ended early: {reason.value}")}


def _deltas(reader: CallReader | None, text: str, *, last: bool = False) -> Iterable[TextDelta | CallDelta]:
    if reader is None:
        return [TextDelta(text)] if text or last else []
    return [*reader.feed(text), *(reader.finish() if last else ())]


class ResponseNarrator:
    """The events of a streamed response, in the order OpenAI's clients expect."""

    def __init__(self, frame: Frame, body: ResponseRequest, reader: CallReader | None) -> None:
        self._frame = frame
        self._body = body
        self._reader = reader
        self._output = Output()
        self._number = 0
        self._open: Item | None = None

    def opening(self, index: int) -> bytes:
        shown = reply(self._frame, self._body, self._output, None).model_dump(mode="json")
        return self._event("response.created", response=shown) + self._event("response.in_progress", response=shown)

    def piece(self, index: int, chunk: Chunk) -> bytes:
        return b"".join(self._told(delta) for delta in _deltas(self._reader, chunk.text))

    def held(self, index: int) -> int:
        return 0 if self._reader is None else self._reader.held

    def closing(self, index: int) -> bytes:
        if self._reader is None:
            return b"" if self._output.items else self._told(TextDelta(""))
        return b"".join(self._told(delta) for delta in self._reader.finish())

    def ending(self, settlements: Sequence[Settlement | None], failure: TiramiError | None) -> bytes:
        settlement = settlements[0] if settlements else None
        whole = reply(self._frame, self._body, self._output, settlement, failure)
        closed = self._closed("completed" if whole.status == "completed" else "incomplete")
        return closed + self._event(f"response.{whole.status}", response=whole.model_dump(mode="json"))

    def _told(self, delta: TextDelta | CallDelta) -> bytes:
        told = b""
        if self._output.add(delta):
            told += self._closed("completed")
            told += self._begun(self._output.items[-1])
        item, where = self._output.items[-1], len(self._output.items) - 1
        if isinstance(delta, CallDelta):
            if not delta.arguments:
                return told
            return told + self._event(
                "response.function_call_arguments.delta", item_id=item.id, output_index=where, delta=delta.arguments
            )
        return told + self._event(
            "response.output_text.delta",
            item_id=item.id,
            output_index=where,
            content_index=0,
            delta=delta.text,
            logprobs=[],
        )

    def _begun(self, item: Item) -> bytes:
        self._open, where = item, len(self._output.items) - 1
        shown = item.shown("in_progress", empty=True).model_dump()
        told = self._event("response.output_item.added", output_index=where, item=shown)
        if item.name is None:
            part = OutputText(text="").model_dump()
            told += self._event(
                "response.content_part.added", item_id=item.id, output_index=where, content_index=0, part=part
            )
        return told

    def _closed(self, status: str) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        place = {"item_id": item.id, "output_index": self._output.items.index(item)}
        if item.name is not None:
            told = self._event("response.function_call_arguments.done", **place, arguments=item.text, name=item.name)
        else:
            part = OutputText(text=item.text).model_dump()
            told = self._event("response.output_text.done", **place, content_index=0, text=item.text, logprobs=[])
            told += self._event("response.content_part.done", **place, content_index=0, part=part)
        shown = item.shown(status).model_dump()
        return told + self._event("response.output_item.done", output_index=place["output_index"], item=shown)

    def _event(self, kind: str, **content: object) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **content}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
