"""``/v1/chat/completions``."""

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
from starlette.responses import Response

from tirami.api.schemas import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionRequest,
    Choice,
    ChoiceLogprobs,
    FunctionReply,
    ToolCallReply,
)
from tirami.core.errors import TiramiError
from tirami.infer import CallDelta, CallReader, Chunk, FinishReason, TextDelta, TokenLogprob
from tirami.market import Settlement
from tirami.node.answer import FINISH, ChatStream, written
from tirami.node.chat import ChatCall
from tirami.node.http.caller import payer_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.asking import chat_call, reader_of
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.naming import named
from tirami.node.http.openai.stream import EventStream, while_connected

Delta = dict[str, object]


@handles("chat_completions")
async def chat_completions(call: Call) -> ChatCompletion | Response:
    body: ChatCompletionRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    asked = chat_call(call, payer, body)
    if body.stream:
        with named(max_tokens=body.limit_name):
            stream = await while_connected(call.request, call.parts.chat.stream(asked))
        frame = Frame(call, stream.ticket, "chatcmpl-")
        readers = [reader_of(asked) for _ in stream.choices]
        return EventStream(ChatNarrator(frame, stream, readers, include_usage=body.wants_usage), stream)
    with named(max_tokens=body.limit_name):
        answer = await while_connected(call.request, call.parts.chat.answer(asked, partial(_told, asked)))
    frame = Frame(call, answer.ticket, "chatcmpl-")
    return ChatCompletion(
        id=frame.id,
        created=frame.created,
        model=frame.model,
        choices=[
            Choice(
                index=index,
                message=message,
                logprobs=logprobs,
                finish_reason=finish_reason(settlement, calls=bool(message.tool_calls)),
            )
            for index, ((message, logprobs), settlement) in enumerate(zip(answer.told, answer.settlements, strict=True))
        ],
        usage=frame.usage(answer.settlements, answer.prompts),
        **frame.extensions(answer.settlements),
    )


def _told(asked: ChatCall, chunks: Sequence[Chunk]) -> tuple[AssistantMessage, ChoiceLogprobs | None]:
    text: str | None = written(chunks)
    calls: list[ToolCallReply] | None = None
    if (reader := reader_of(asked)) is not None:
        text, calls = read_calls(text or "", reader)
    reasoning = "".join([chunk.reasoning for chunk in chunks])
    message = AssistantMessage(content=text, reasoning_content=reasoning or None, tool_calls=calls)
    if asked.logprobs is None:
        return message, None
    told = [token for chunk in chunks for token in chunk.logprobs]
    return message, ChoiceLogprobs.model_validate({"content": msgspec.to_builtins(told)})


def read_calls(text: str, reader: CallReader) -> tuple[str | None, list[ToolCallReply] | None]:
    """Text beside the calls, and the calls; each ``None`` where there is none."""
    deltas = [*reader.feed(text), *reader.finish()]
    beside = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    begun = [delta for delta in deltas if isinstance(delta, CallDelta) and delta.id is not None]
    calls = []
    for delta in begun:
        pieces = [d.arguments for d in deltas if isinstance(d, CallDelta) and d.index == delta.index]
        function = FunctionReply(name=delta.name or "", arguments="".join(pieces))
        calls.append(ToolCallReply(id=delta.id or "", function=function))
    return (beside.strip() or None) if calls else beside, calls or None


def finish_reason(settlement: Settlement | None, *, calls: bool = False) -> str:
    """As OpenAI's clients know it, with ``calls`` in the answer or none; ours where they have no word."""
    if settlement is None:
        return FINISH[FinishReason.CANCELLED]
    if settlement.reason is FinishReason.STOP and calls:
        return "tool_calls"
    return FINISH[settlement.reason]


class ChatNarrator:
    """Chunks of a chat completion; choices take turns by their index."""

    def __init__(
        self, frame: Frame, stream: ChatStream, readers: list[CallReader | None], *, include_usage: bool
    ) -> None:
        self._frame = frame
        self._prompts = [choice.prompt for choice in stream.choices]
        self._readers = readers
        self._include_usage = include_usage
        head = {"id": frame.id, "object": "chat.completion.chunk", "created": frame.created, "model": frame.model}
        self._head = b"data: " + msgspec.json.encode(head)[:-1]
        self._before = [
            self._head + b',"choices":[{"index":%d,"delta":{"content":' % index for index in range(len(self._prompts))
        ]

    def opening(self, index: int) -> bytes:
        return self._chunk(index, {"role": "assistant", "content": "" if self._readers[index] is None else None})

    def piece(self, index: int, chunk: Chunk) -> bytes:
        if not chunk.reasoning:
            return self._answered(index, chunk)
        thought = self._chunk(index, {"reasoning_content": chunk.reasoning})
        return thought + self._answered(index, chunk) if chunk.text else thought

    def held(self, index: int) -> int:
        reader = self._readers[index]
        return 0 if reader is None else reader.held

    def _answered(self, index: int, chunk: Chunk) -> bytes:
        if (reader := self._readers[index]) is not None:
            return self._told(index, reader.feed(chunk.text))
        text = msgspec.json.encode(chunk.text)
        if chunk.logprobs:
            told = msgspec.json.encode(_logprobs(chunk.logprobs))
            return self._before[index] + text + b'},"logprobs":' + told + b',"finish_reason":null}]}\n\n'
        return self._before[index] + text + b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def closing(self, index: int) -> bytes:
        reader = self._readers[index]
        return b"" if reader is None else self._told(index, reader.finish())

    def ending(self, settlements: Sequence[Settlement | None], failure: TiramiError | None) -> bytes:
        ending, extensions = b"", self._frame.dumped(settlements)
        last = len(settlements) - 1
        for index, settlement in enumerate(settlements):
            beside = extensions if index == last else {}
            reader = self._readers[index]
            reason = finish_reason(settlement, calls=reader is not None and reader.calls > 0)
            ending += self._chunk(index, {}, reason, **beside)
        if settlements and self._include_usage:
            usage = self._frame.usage(settlements, self._prompts).model_dump()
            ending += self._event(choices=[], usage=usage, **extensions)
        if failure is not None:
            ending += self._frame.error(failure)
        return ending + b"data: [DONE]\n\n"

    def _told(self, index: int, deltas: Iterable[TextDelta | CallDelta]) -> bytes:
        return b"".join(self._chunk(index, _delta(delta)) for delta in deltas)

    def _chunk(self, index: int, delta: Delta, finish: str | None = None, **beside: object) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event(choices=[choice], **beside)

    def _event(self, **content: object) -> bytes:
        return self._head + b"," + msgspec.json.encode(content)[1:] + b"\n\n"


def _delta(delta: TextDelta | CallDelta) -> Delta:
    if isinstance(delta, TextDelta):
        return {"content": delta.text}
    function: dict[str, object] = {"arguments": delta.arguments}
    told: dict[str, object] = {"index": delta.index, "function": function}
    if delta.id is not None:
        function["name"] = delta.name
        told |= {"id": delta.id, "type": "function"}
    return {"tool_calls": [told]}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object]:
    return {"content": tokens, "refusal": None}
