"""An engine behind any OpenAI-compatible URL: vLLM, SGLang, Ollama, LM Studio, llama-server, another node.

It counts what the upstream says it counted, and estimates the prompt of an answer that ended before it said so; such
answers serve local and hosted payers only and their readings say so. The upstream's own key is the only credential that
is sent; a caller's never is.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from tirami.core.clock import Clock
from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelLoadError,
    ModelNotFound,
    QueueFull,
    TiramiError,
    UpstreamUnavailable,
)
from tirami.core.keys import sha256
from tirami.core.units import TokenCount
from tirami.infer.chat import PER_PROMPT, unrendered
from tirami.infer.embedding import EmbeddingGeneration, Vectors, vector_text
from tirami.infer.engine import (
    CountedBy,
    EngineStatus,
    FinishReason,
    Generation,
    Message,
    ModelCard,
    Prompt,
    Sampling,
)
from tirami.infer.tools import Tools
from tirami.infer.upstream_stream import UpstreamGeneration, Usage, request_body

DEFAULT_CONTEXT = 4096
SILENCE_S = 300
"""An upstream that says nothing for this long is gone."""
MAX_VECTORS = 1 << 26
"""Most bytes of an answer with vectors."""
LISTED_S = 5
"""How long its list of models may take."""
UNAVAILABLE = (503,)
"""What a server, or a proxy before it, answers while it starts or has too much to do. Not 502: this very request may
have ended the server."""


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: Usage = msgspec.field(default_factory=Usage)


class UpstreamEngine:
    """An :class:`~tirami.infer.engine.Engine` that asks somebody else's server.

    Args:
        url: base URL, ending in ``/v1`` as a rule.
        model: id at the upstream; its first one when empty.
        api_key: bearer for the upstream.
        parameters, context: of the model; 0 takes what the upstream tells.
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
        slots: int = 8,
        clock: Clock,
    ) -> None:
        self._url = url.rstrip("/")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._parameters = parameters
        self._context = context
        self._active = active_parameters
        self._slots = slots
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._running: set[aiohttp.ClientResponse] = set()
        self._card: ModelCard | None = None
        self._busy = 0
        self._problem = "not started"
        self._other_widths: dict[int, int] = {}
        """By width of vectors that it was asked for, the one they had: it may have some smaller ones and not others."""
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
        """Ask for the model list, once. Raises ``ModelLoadError`` when it cannot be had or says too little."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        try:
            self._card = self._described(await self._listed(self._model))
        except BaseException:
            await self.close()
            raise
        self._problem = ""

    async def check(self) -> None:
        """Ask whether an upstream that was gone is back, with the same model; :meth:`status` tells."""
        try:
            await self._listed(self.card.name)
        except ModelLoadError as error:
            if self._problem:  # else an answer came meanwhile
                self._problem = error.message
        else:
            self._problem = ""

    async def close(self) -> None:
        """End every connection; running answers raise ``EngineFailed``. Idempotent."""
        for response in tuple(self._running):
            response.close()  # closing the session alone leaves its reader waiting for ever
        if self._session is not None:
            await self._session.close()
            self._problem = "closed"

    async def prepare(
        self, messages: Sequence[Message], tools: Tools | None = None, schema: str | None = None
    ) -> Prompt:
        """The upstream renders; schemas are its to refuse."""
        return unrendered(messages, tools)

    async def prepare_text(self, text: str | Sequence[int], schema: str | None = None) -> Prompt:
        if isinstance(text, str):
            return Prompt((), TokenCount(len(text.encode()) + PER_PROMPT), False, text, ())
        return Prompt(tuple(text), TokenCount(len(text)), False, "", ())

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Generation]:
        self._busy += 1
        sent_at = self._clock.monotonic()
        try:
            response = await self._ask(prompt, sampling)
            generation = UpstreamGeneration(response, self.card, prompt, self._clock, sent_at)
            self._running.add(response)
            try:
                yield generation
            finally:
                self._running.discard(response)
                response.close()
                generation.end(FinishReason.CANCELLED)
        finally:
            self._busy -= 1

    @asynccontextmanager
    async def embed(self, inputs: Sequence[Prompt], dimensions: int | None = None) -> AsyncIterator[Generation]:
        self._busy += 1
        vectors = self._embedded(inputs, dimensions)
        generation = EmbeddingGeneration(self.card, vectors, CountedBy.UPSTREAM, self._clock.monotonic)
        try:
            yield generation
        finally:
            self._busy -= 1
            generation.end(FinishReason.CANCELLED)

    async def _embedded(self, inputs: Sequence[Prompt], dimensions: int | None) -> Vectors:
        """The prompt tokens are those the upstream counted.

        Vectors of another width than was asked for are no answer, and nothing is charged; the upstream is not made to
        work for that width again.
        """
        if dimensions is not None and dimensions in self._other_widths:
            raise _other_width(dimensions, self._other_widths[dimensions])
        texts = [prompt.text or list(prompt.tokens) for prompt in inputs]
        body: dict[str, Any] = {"model": self.card.name, "input": texts}
        if dimensions is not None:
            body["dimensions"] = dimensions
        response = await self._post("embeddings", body)
        if response.status != 200:
            raise _refusal(response.status, await _complaint(response), "input")
        self._running.add(response)
        try:
            told = msgspec.json.decode(await _bounded(response, MAX_VECTORS), type=_Vectors)
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            raise EngineFailed(f"the upstream's vectors broke off: {type(error).__name__}") from error
        finally:
            self._running.discard(response)
            response.close()
        if len(told.data) != len(inputs):
            raise EngineFailed("the upstream sent another number of vectors than it was asked for")
        widths = {len(entry.embedding) for entry in told.data}
        if len(widths) != 1 or 0 in widths:
            raise EngineFailed("the upstream sent vectors without a width, or of several")
        if dimensions is not None and dimensions not in widths:
            (self._other_widths[dimensions],) = widths
            raise _other_width(dimensions, self._other_widths[dimensions])
        for index, entry in enumerate(told.data):
            yield vector_text(entry.embedding), told.usage.prompt_tokens if index == 0 else 0

    async def _ask(self, prompt: Prompt, sampling: Sampling) -> aiohttp.ClientResponse:
        path = "chat/completions" if prompt.messages else "completions"
        body = request_body(self.card.name, prompt, sampling)
        if self._continuous:
            body["stream_options"]["continuous_usage_stats"] = True
        response = await self._post(path, body)
        if response.status == 200:
            return response
        said = await _complaint(response)
        if response.status == 400 and self._continuous and "continuous_usage" in said:
            self._continuous = False
            del body["stream_options"]["continuous_usage_stats"]
            response = await self._post(path, body)
            if response.status == 200:
                return response
            said = await _complaint(response)
        raise _refusal(response.status, said, "messages" if prompt.messages else "prompt")

    async def _post(self, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        if self._session is None or self._session.closed:
            raise EngineFailed(f"the upstream is not in use: {self._problem}", retry_after=5)
        try:
            response = await self._session.post(f"{self._url}/{path}", json=body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._problem = f"the upstream cannot be reached: {type(error).__name__}"
            raise UpstreamUnavailable(self._problem, retry_after=5) from error
        except (aiohttp.ClientError, OSError) as error:
            # one connection's end is no word on the server: others go on
            raise EngineFailed(f"the upstream broke off: {type(error).__name__}", retry_after=5) from error
        self._problem = ""
        return response

    async def _listed(self, model: str) -> dict[str, Any]:
        """The upstream's entry of this model, its first one for the empty name. Raises ``ModelLoadError``."""
        assert self._session is not None
        try:
            timeout = aiohttp.ClientTimeout(total=LISTED_S)
            async with self._session.get(f"{self._url}/models", timeout=timeout) as reply:
                if reply.status != 200:
                    raise ModelLoadError(f"the upstream does not list its models: it answers {reply.status}")
                entries = (await reply.json(content_type=None))["data"]
            found = [entry for entry in entries if model in ("", entry["id"])]
            if not found:
                raise ModelLoadError(f"the upstream has no model {model!r}")
            return dict(found[0])
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
            raise ModelLoadError(f"the upstream does not list its models: {type(error).__name__}") from error

    def _described(self, entry: dict[str, Any]) -> ModelCard:
        meta = entry.get("meta")
        told = {"n_ctx_train": entry.get("max_model_len")}  # vLLM and SGLang
        told |= meta if isinstance(meta, dict) else {}
        parameters = self._parameters or _count(told.get("n_params"))
        if parameters <= 0:
            raise ModelLoadError("the upstream does not tell its model's size; set infer.upstream_parameters")
        label = (b"tirami/1/upstream", self._url.encode(), str(entry["id"]).encode())
        return ModelCard(
            name=str(entry["id"]),
            digest=sha256(*label),
            tokenizer_digest=sha256(*label, b"tokenizer"),
            context_length=self._context or _count(told.get("n_ctx_train")) or DEFAULT_CONTEXT,
            parameters=parameters,
            active_parameters=min(self._active or parameters, parameters),
            layers=_count(told.get("n_layer")),
            hidden=_count(told.get("n_embd")),
            quantization="unknown",
            size_bytes=0,
            counted_by=CountedBy.UPSTREAM,
        )


def _other_width(asked: int, made: int) -> InvalidRequest:
    return InvalidRequest(f"asked for {asked} dimensions, the upstream's vectors have {made}", param="dimensions")


def _count(told: object) -> int:
    """A number the upstream tells, 0 where it is none."""
    if isinstance(told, bool) or not isinstance(told, int | float):
        return 0
    return int(told) if 0 < told < 1 << 63 else 0


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    """A body of at most so many bytes. Raises ``EngineFailed`` when there are more."""
    body = bytearray()
    async for block in response.content.iter_chunked(1 << 16):
        body += block
        if len(body) > most:
            raise EngineFailed(f"the upstream answered with more than {most >> 20} MiB")
    return bytes(body)


async def _complaint(response: aiohttp.ClientResponse) -> str:
    """The beginning of what a refusal says. Raises ``EngineFailed`` when it breaks off."""
    try:
        return (await response.content.read(4096)).decode(errors="replace")
    except (aiohttp.ClientError, OSError) as error:
        raise EngineFailed(f"the upstream's refusal broke off: {type(error).__name__}", retry_after=5) from error
    finally:
        response.close()


def _refusal(status: int, said: str, param: str) -> TiramiError:
    """The error an upstream's refusal stands for; its text may hold the prompt and is not passed on."""
    if status == 400:
        if "context" in said:
            return ContextLengthExceeded("the prompt and the answer do not fit the upstream's context", param=param)
        if "dimension" in said:
            return InvalidRequest("the upstream has no vectors of this width", param="dimensions")
        if "schema" in said or "grammar" in said:
            return InvalidRequest("the upstream cannot hold answers to this schema", param="response_format")
        return InvalidRequest("the upstream refused this request")
    if status == 404:
        return ModelNotFound("the upstream does not know this model", param="model")
    if status == 429:
        return QueueFull("the upstream is busy", retry_after=5)
    kind = UpstreamUnavailable if status in UNAVAILABLE else EngineFailed
    return kind(f"the upstream answered {status}", retry_after=5)
