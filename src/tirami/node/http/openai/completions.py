"""``/v1/completions``: a prompt as it is."""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from tirami.api.schemas import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from tirami.core.errors import TiramiError
from tirami.infer import Chunk, TokenLogprob
from tirami.market import Settlement
from tirami.node.answer import ChatStream, written
from tirami.node.http.caller import payer_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.asking import completion_call
from tirami.node.http.openai.chat import finish_reason
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.naming import named
from tirami.node.http.openai.stream import EventStream, while_connected

NEVER = -9999.0


@handles("completions")
async def completions(call: Call) -> Completion | Response:
    body: CompletionRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    asked = completion_call(call, payer, body)
    echoes = [prompt if body.echo and isinstance(prompt, str) else "" for prompt in body.prompt]
    if body.stream:
        with named(messages="prompt"):
            stream = await while_connected(call.request, call.parts.chat.stream(asked))
        frame = Frame(call, stream.ticket, "cmpl-")
        return EventStream(CompletionNarrator(frame, stream, echoes, include_usage=body.wants_usage), stream)

    def read(chunks: Sequence[Chunk]) -> tuple[str, CompletionLogprobs | None]:
        told = [token for chunk in chunks for token in chunk.logprobs]
        return written(chunks), CompletionLogprobs(**_logprobs(told, 0)) if body.logprobs is not None else None

    with named(messages="prompt"):
        answer = await while_connected(call.request, call.parts.chat.answer(asked, read))
    frame = Frame(call, answer.ticket, "cmpl-")
    choices = [
        CompletionChoice(
            index=index,
            text=echoes[answer.prompts[index]] + text,
            logprobs=logprobs,
            finish_reason=finish_reason(settlement),
        )
        for index, ((text, logprobs), settlement) in enumerate(zip(answer.told, answer.settlements, strict=True))
    ]
    return Completion(
        id=frame.id,
        created=frame.created,
        model=frame.model,
        choices=choices,
        usage=frame.usage(answer.settlements, answer.prompts),
        **frame.extensions(answer.settlements),
    )


class CompletionNarrator:
    """Chunks of a completion; choices take turns by their index."""

    def __init__(self, frame: Frame, stream: ChatStream, echoes: Sequence[str], *, include_usage: bool) -> None:
        self._frame = frame
        self._prompts = [choice.prompt for choice in stream.choices]
        self._echoes = echoes
        self._include_usage = include_usage
        self._offsets = [0] * len(self._prompts)
        head = {"id": frame.id, "object": "text_completion", "created": frame.created, "model": frame.model}
        self._head = b"data: " + msgspec.json.encode(head)[:-1]

    def opening(self, index: int) -> bytes:
        echo = self._echoes[self._prompts[index]]
        return self._chunk(index, echo, None) if echo else b""

    def piece(self, index: int, chunk: Chunk) -> bytes:
        logprobs = _logprobs(chunk.logprobs, self._offsets[index]) if chunk.logprobs else None
        self._offsets[index] += len(chunk.text)
        return self._chunk(index, chunk.text, None, logprobs)

    def held(self, index: int) -> int:
        return 0

    def closing(self, index: int) -> bytes:
        return b""

    def ending(self, settlements: Sequence[Settlement | None], failure: TiramiError | None) -> bytes:
        ending, extensions = b"", self._frame.dumped(settlements)
        last = len(settlements) - 1
        for index, settlement in enumerate(settlements):
            beside = extensions if index == last else {}
            ending += self._chunk(index, "", finish_reason(settlement), None, **beside)
        if settlements and self._include_usage:
            usage = self._frame.usage(settlements, self._prompts).model_dump()
            ending += self._event(choices=[], usage=usage, **extensions)
        if failure is not None:
            ending += self._frame.error(failure)
        return ending + b"data: [DONE]\n\n"

    def _chunk(self, index: int, text: str, finish: str | None, logprobs: object = None, **beside: object) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return self._event(choices=[choice], **beside)

    def _event(self, **content: object) -> bytes:
        return self._head + b"," + msgspec.json.encode(content)[1:] + b"\n\n"


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, list[object]]:
    """In the older shape: parallel lists."""
    offsets: list[object] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [NEVER if token.logprob is None else token.logprob for token in tokens],
        "top_logprobs": [
            {other.token: NEVER if other.logprob is None else other.logprob for other in token.top_logprobs}
            for token in tokens
        ],
        "text_offset": offsets,
    }
