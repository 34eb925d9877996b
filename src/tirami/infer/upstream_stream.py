"""The stream an upstream answers with: what it is asked, and how its events are read."""

import json
from collections.abc import AsyncIterator
from itertools import zip_longest
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong

from tirami.core.clock import Clock
from tirami.core.errors import EngineFailed, TiramiError
from tirami.core.units import TokenCount
from tirami.infer.engine import (
    Alternative,
    Chunk,
    CountedBy,
    FinishReason,
    ModelCard,
    Prompt,
    Reading,
    Sampling,
    TokenLogprob,
)
from tirami.infer.flop import flop
from tirami.infer.shaping import ANY_OBJECT
from tirami.infer.tools import CLOSE, OPEN, Tools

MAX_LINE = 1 << 20
"""Longest line of a stream, bytes."""
BYTES_PER_TOKEN = 4
"""Of a prompt nobody counted, as a rough mean over languages and tokenizers."""
_FINISH = {"length": FinishReason.LENGTH}


class _Details(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_tokens_details: _Details | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    """The same by the name that most servers use; some send both."""

    @property
    def thought(self) -> str:
        told = self.reasoning_content or self.reasoning
        return told if isinstance(told, str) else ""


_NOTHING = _Delta()


class _Lists(msgspec.Struct):
    tokens: list[str] | None
    token_logprobs: list[float | None] | None
    top_logprobs: list[dict[str, float | None] | None] | None


class _Logprobs(msgspec.Struct):
    """Of a chat the ``content``; of a completion, with many servers, parallel lists."""

    content: list[TokenLogprob] | None = None
    tokens: Any = None
    token_logprobs: Any = None
    top_logprobs: Any = None

    def told(self) -> list[TokenLogprob]:
        if self.content is not None:
            return self.content
        try:
            lists = msgspec.convert(self, _Lists, from_attributes=True)
        except msgspec.ValidationError:  # mlx-lm tells them unasked, and of tokens only the ids
            return []
        tokens = lists.tokens or []
        logprobs, others = (lists.token_logprobs or [])[: len(tokens)], (lists.top_logprobs or [])[: len(tokens)]
        return [
            TokenLogprob(token, logprob, None, [Alternative(*other) for other in (tops or {}).items()])
            for token, logprob, tops in zip_longest(tokens, logprobs, others)
        ]


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    """Of an answer that is no chat."""
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class UpstreamGeneration:
    """One streamed answer of the upstream, asked at ``sent_at`` of the monotonic clock.

    Many servers tell the prompt's tokens with the last event only, or never. An answer that ended before they were told
    is read with :func:`estimated` ones, or a client that leaves early would have its prompt for nothing. While the
    answer runs the reading tells only what was told: an estimate that turned out too high would have been signed for.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, card: ModelCard, prompt: Prompt, clock: Clock, sent_at: float
    ) -> None:
        self._response = response
        self._card = card
        self._estimate = estimated(prompt)
        self._clock = clock
        self._began = sent_at
        self._first: float | None = None
        self._ended: float | None = None
        self._count = 0
        self._prompt = 0
        """Tokens of the prompt, as the upstream told."""
        self._thought = 0
        """Of the tokens counted those of reasoning: as told, else what was counted with it."""
        self._call: int | None = None
        """The call being written."""
        self._said: FinishReason | None = None
        self._finish: FinishReason | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._finish

    def end(self, reason: FinishReason) -> None:
        """The first reason stands, and the clock with it."""
        if self._finish is None:
            self._finish = reason
            self._ended = self._clock.monotonic()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            while line := await self._response.content.readuntil(b"\n", max_size=MAX_LINE):
                field, _, value = line.partition(b":")  # the space after it is optional, a line without field a comment
                if field != b"data":
                    continue
                value = value.strip()
                if value.startswith(b"{"):
                    for chunk in self._chunks(_event.decode(value)):
                        yield chunk
                elif value == b"[DONE]":
                    break
            if self._said is None:
                raise EngineFailed("the upstream ended its stream without a reason")
            self.end(self._said)
        except TiramiError:
            self.end(FinishReason.FAILED)
            raise
        except (aiohttp.ClientError, LineTooLong, OSError, ValueError) as error:
            self.end(FinishReason.FAILED)
            raise EngineFailed(f"the upstream's stream broke: {type(error).__name__}") from error
        finally:
            self.end(FinishReason.CANCELLED)

    def _chunks(self, event: _Event) -> list[Chunk]:
        if event.error is not None:
            raise EngineFailed("the upstream reported an error in its stream")
        choices = event.choices or ()
        text = "".join(self._written(choice) for choice in choices)
        reasoning = "".join(choice.delta.thought for choice in choices if choice.delta)
        before = self._count
        if event.usage is not None:
            self._prompt = max(self._prompt, event.usage.prompt_tokens)
            self._count = max(self._count, event.usage.completion_tokens)
        elif text or reasoning:
            self._count += 1
        if reasoning and not text:
            self._thought += self._count - before
        if event.usage is not None and event.usage.completion_tokens_details is not None:
            self._thought = event.usage.completion_tokens_details.reasoning_tokens or self._thought
        for choice in choices:
            if choice.finish_reason:
                self._said = _FINISH.get(choice.finish_reason, FinishReason.STOP)
        if not (text or reasoning) and self._count == before:
            return []
        if self._first is None:
            self._first = self._clock.monotonic()
        logprobs = [told.numbered() for choice in choices if choice.logprobs for told in choice.logprobs.told()]
        return [Chunk(text, (), TokenCount(self._count), logprobs if text or not reasoning else (), reasoning)]

    def _written(self, choice: _Choice) -> str:
        """Text of an answer, calls written out as a model of ours would write them."""
        delta = choice.delta or _NOTHING
        text = delta.content or choice.text or ""
        for call in delta.tool_calls or ():
            if call.function.name is not None and call.index != self._call:
                text += self._close_call() + f'{OPEN}{{"name": {json.dumps(call.function.name)}, "arguments": '
                self._call = call.index
            text += call.function.arguments or ""
        if choice.finish_reason:
            text += self._close_call()
        return text

    def _close_call(self) -> str:
        open_call, self._call = self._call, None
        return "" if open_call is None else f"}}{CLOSE}"

    def reading(self) -> Reading:
        now = self._clock.monotonic() if self._ended is None else self._ended
        prompt = self._prompt
        if not prompt and self._count and self._finish is not None:
            prompt = self._estimate
        return Reading(
            prompt_tokens=TokenCount(prompt),
            completion_tokens=TokenCount(self._count),
            flop=flop(self._card, prompt, self._count),
            ttft_ms=None if self._first is None else (self._first - self._began) * 1000,
            wall_ms=(now - self._began) * 1000,
            peak_memory_bytes=0,
            ids_complete=False,
            counted_by=CountedBy.UPSTREAM,
            reasoning_tokens=TokenCount(min(self._thought, self._count)),
        )


def estimated(prompt: Prompt) -> int:
    """Tokens of a prompt the upstream did not count: at least one, and no more than the hold is for."""
    if prompt.tokens:
        return len(prompt.tokens)
    return min(max(1, len(prompt.text.encode()) // BYTES_PER_TOKEN), prompt.count)


def request_body(model: str, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    """What the upstream is asked. What the caller left out is not named: servers refuse what is new to them."""
    shaping, body = sampling.shaping, {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p}
    body["seed"] = sampling.seed
    if prompt.messages:
        body["messages"] = [dict(message) for message in prompt.messages]
    else:
        body["prompt"] = list(prompt.tokens) or prompt.text
    for name in ("presence_penalty", "frequency_penalty", "min_p"):
        if value := getattr(shaping, name):
            body[name] = value
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if shaping.repeat_penalty != 1.0:
        body["repeat_penalty"] = body["repetition_penalty"] = shaping.repeat_penalty
    if shaping.stop:
        body["stop"] = list(shaping.stop)
    if shaping.logit_bias:
        body["logit_bias"] = {str(token): addend for token, addend in shaping.logit_bias}
    if sampling.logprobs is not None:
        asked = (
            {"logprobs": True, "top_logprobs": sampling.logprobs}
            if prompt.messages
            else {"logprobs": sampling.logprobs}
        )
        body |= asked
    if prompt.tools is not None:
        body["tools"] = prompt.tools.specs
        body["tool_choice"] = _tool_choice(prompt.tools)
    elif shaping.schema is not None:
        body["response_format"] = _response_format(shaping.schema)
    return body


def _tool_choice(tools: Tools) -> Any:
    if len(tools.demanded) == 1 and len(tools.functions) > 1:
        return {"type": "function", "function": {"name": tools.demanded[0]}}
    return "required" if tools.demanded else "auto"


def _response_format(schema: str) -> dict[str, Any]:
    if schema == ANY_OBJECT:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": json.loads(schema)}}
