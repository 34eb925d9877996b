"""An engine behind any OpenAI-compatible URL: vLLM, SGLang, Ollama, LM Studio, llama-server, another node.

It counts what the upstream says it counted; such answers serve local and hosted payers only and their readings say
so. The upstream's own key is the only credential that is sent; a caller's never is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong

from tirami.core.clock import Clock
from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelLoadError,
    ModelNotFound,
    QueueFull,
    TiramiError,
)
from tirami.core.keys import sha256
from tirami.core.units import TokenCount
from tirami.infer.engine import (
    Chunk,
    CountedBy,
    EngineStatus,
    FinishReason,
    Generation,
    Message,
    ModelCard,
    Prompt,
    Reading,
    Sampling,
)
from tirami.infer.flop import flop

MAX_LINE = 1 << 20
"""Longest line of a stream, bytes."""
DEFAULT_CONTEXT = 4096
SILENCE_S = 300
"""An upstream that says nothing for this long is gone."""
PROBES, PROBE_PAUSE_S = 3, 1.5
PER_MESSAGE, PER_PROMPT = 16, 16
"""Upper bound of what a chat template adds, tokens."""
_FINISH = {"length": FinishReason.LENGTH}


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return (self.delta and self.delta.content) or ""


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class UpstreamEngine:
    """An :class:`~tirami.infer.engine.Engine` that asks somebody else's server.

    Args:
        url: base URL, ending in ``/v1`` as a rule.
        model: id at the upstream; its first one when empty.
        api_key: bearer for the upstream.
        parameters, context, layers, hidden: of the model; 0 takes what the upstream tells.
        active_parameters: weights a token touches; 0 for all.
        slots: requests sent at once.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key: str = "",
        parameters: int = 0,
        active_parameters: int = 0,
        context: int = 0,
        layers: int = 0,
        hidden: int = 0,
        slots: int = 8,
        clock: Clock,
    ) -> None:
        self._url = url.rstrip("/")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._known = {"n_params": parameters, "n_ctx_train": context, "n_layer": layers, "n_embd": hidden}
        self._active = active_parameters
        self._slots = slots
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._running: set[aiohttp.ClientResponse] = set()
        self._card: ModelCard | None = None
        self._busy = 0
        self._problem = "not started"
        self._continuous = True

    @property
    def card(self) -> ModelCard:
        assert self._card is not None
        return self._card

    @property
    def slots(self) -> int:
        return self._slots

    def status(self) -> EngineStatus:
        return EngineStatus(not self._problem, self._slots, self._busy, 0, self._problem or "reachable")

    async def start(self) -> None:
        """Ask for the model list. Raises ``ModelLoadError`` when it cannot be had or says too little."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        try:
            self._card = self._described(await self._models())
        except BaseException:
            await self.close()
            raise
        self._problem = ""

    async def close(self) -> None:
        """End every connection; running answers raise ``EngineFailed``. Idempotent."""
        for response in tuple(self._running):
            response.close()  # closing the session alone leaves its reader waiting for ever
        if self._session is not None:
            await self._session.close()
            self._problem = "closed"

    async def prepare(self, messages: Sequence[Message]) -> Prompt:
        texts = [str(message.get("content") or "") for message in messages]
        bound = sum(len(text.encode()) for text in texts) + PER_MESSAGE * len(texts) + PER_PROMPT
        text = "\n".join(f"{message.get('role')}: {text}" for message, text in zip(messages, texts, strict=True))
        return Prompt((), TokenCount(bound), False, text, messages)

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Generation]:
        self._busy += 1
        sent_at = self._clock.monotonic()
        try:
            response = await self._ask(prompt, sampling)
            generation = _UpstreamGeneration(response, self.card, self._clock, sent_at)
            self._running.add(response)
            try:
                yield generation
            finally:
                self._running.discard(response)
                response.close()
                generation.end(FinishReason.CANCELLED)
        finally:
            self._busy -= 1

    async def _ask(self, prompt: Prompt, sampling: Sampling) -> aiohttp.ClientResponse:
        body: dict[str, Any] = {
            "model": self.card.name,
            "messages": [dict(message) for message in prompt.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._continuous:
            body["stream_options"]["continuous_usage_stats"] = True
        response = await self._post(body)
        if response.status == 200:
            return response
        said = await _complaint(response)
        if response.status == 400 and self._continuous and "continuous_usage" in said:
            self._continuous = False
            del body["stream_options"]["continuous_usage_stats"]
            response = await self._post(body)
            if response.status == 200:
                return response
            said = await _complaint(response)
        raise _refusal(response.status, said)

    async def _post(self, body: dict[str, Any]) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise EngineFailed(f"the upstream is not in use: {self._problem}", retry_after=5)
        try:
            response = await self._session.post(f"{self._url}/chat/completions", json=body)
        except (aiohttp.ClientError, OSError) as error:
            self._problem = f"the upstream cannot be reached: {type(error).__name__}"
            raise EngineFailed(self._problem, retry_after=5) from error
        self._problem = ""
        return response

    async def _models(self) -> dict[str, Any]:
        """The upstream's entry of the wanted model."""
        assert self._session is not None
        problem = ""
        for probe in range(PROBES):
            if probe:
                await asyncio.sleep(PROBE_PAUSE_S)
            try:
                async with self._session.get(f"{self._url}/models", timeout=aiohttp.ClientTimeout(total=5)) as reply:
                    if reply.status != 200:
                        problem = f"it answers {reply.status}"
                        continue
                    entries = (await reply.json(content_type=None))["data"]
                found = [entry for entry in entries if self._model in ("", entry["id"])]
                if not found:
                    raise ModelLoadError(f"the upstream has no model {self._model!r}")
                return dict(found[0])
            except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
                problem = f"{type(error).__name__}"
        raise ModelLoadError(f"the upstream does not list its models: {problem}")

    def _described(self, entry: dict[str, Any]) -> ModelCard:
        meta = entry.get("meta")
        told = {"n_ctx_train": entry.get("max_model_len")}  # vLLM and SGLang
        told |= meta if isinstance(meta, dict) else {}
        facts = {name: value or _count(told.get(name)) for name, value in self._known.items()}
        if facts["n_params"] <= 0:
            raise ModelLoadError("the upstream does not tell its model's size; set infer.upstream_parameters")
        label = (b"tirami/1/upstream", self._url.encode(), str(entry["id"]).encode())
        return ModelCard(
            name=str(entry["id"]),
            digest=sha256(*label),
            tokenizer_digest=sha256(*label, b"tokenizer"),
            context_length=facts["n_ctx_train"] or DEFAULT_CONTEXT,
            parameters=facts["n_params"],
            active_parameters=min(self._active or facts["n_params"], facts["n_params"]),
            layers=facts["n_layer"],
            hidden=facts["n_embd"],
            quantization="unknown",
            size_bytes=0,
            counted_by=CountedBy.UPSTREAM,
        )


class _UpstreamGeneration:
    """One streamed answer of the upstream, asked at ``sent_at`` of the monotonic clock."""

    def __init__(self, response: aiohttp.ClientResponse, card: ModelCard, clock: Clock, sent_at: float) -> None:
        self._response = response
        self._card = card
        self._clock = clock
        self._began = sent_at
        self._first: float | None = None
        self._ended: float | None = None
        self._count = 0
        self._prompt = 0
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

    def _chunks(self, event: _Event) -> list[Chunk]:
        if event.error is not None:
            raise EngineFailed("the upstream reported an error in its stream")
        choices = event.choices or ()
        text = "".join(choice.text for choice in choices)
        before = self._count
        if event.usage is not None:
            self._prompt = max(self._prompt, event.usage.prompt_tokens)
            self._count = max(self._count, event.usage.completion_tokens)
        elif text:
            self._count += 1
        for choice in choices:
            if choice.finish_reason:
                self._said = _FINISH.get(choice.finish_reason, FinishReason.STOP)
        if not text and self._count == before:
            return []
        if self._first is None:
            self._first = self._clock.monotonic()
        return [Chunk(text, (), TokenCount(self._count))]

    def reading(self) -> Reading:
        now = self._clock.monotonic() if self._ended is None else self._ended
        return Reading(
            prompt_tokens=TokenCount(self._prompt),
            completion_tokens=TokenCount(self._count),
            flop=flop(self._card, self._prompt, self._count),
            ttft_ms=None if self._first is None else (self._first - self._began) * 1000,
            wall_ms=(now - self._began) * 1000,
            peak_memory_bytes=0,
            ids_complete=False,
            counted_by=CountedBy.UPSTREAM,
        )


def _count(told: object) -> int:
    """A number the upstream tells, 0 where it is none."""
    if isinstance(told, bool) or not isinstance(told, int | float):
        return 0
    return int(told) if 0 < told < 1 << 63 else 0


async def _complaint(response: aiohttp.ClientResponse) -> str:
    """The beginning of what a refusal says. Raises ``EngineFailed`` when it breaks off."""
    try:
        return (await response.content.read(4096)).decode(errors="replace")
    except (aiohttp.ClientError, OSError) as error:
        raise EngineFailed(f"the upstream's refusal broke off: {type(error).__name__}", retry_after=5) from error
    finally:
        response.close()


def _refusal(status: int, said: str) -> TiramiError:
    """The error an upstream's refusal stands for; its text may hold the prompt and is not passed on."""
    if status == 400:
        if "context" in said:
            return ContextLengthExceeded(
                "the prompt and the answer do not fit the upstream's context", param="messages"
            )
        return InvalidRequest("the upstream refused this request")
    if status == 404:
        return ModelNotFound("the upstream does not know this model", param="model")
    if status == 429:
        return QueueFull("the upstream is busy", retry_after=5)
    return EngineFailed(f"the upstream answered {status}", retry_after=5)
