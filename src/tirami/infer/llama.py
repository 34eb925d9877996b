"""The HTTP dialect of llama.cpp's server: one client for one child.

Answers are always streamed and requested with ``timings_per_token``, ``return_progress`` and
``return_tokens``: only streams are cancelled when the connection closes, only ``predicted_n`` counts exactly,
and progress events are what lets the server notice a closed connection during a long prompt.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from tirami.core.errors import ContextLengthExceeded, EngineFailed, InvalidRequest
from tirami.infer.engine import Alternative, Sampling, TokenLogprob

SEED_RANGE: Final = 2**32 - 1
"""Seeds llama.cpp takes literally; the one above them means "random" there."""
PENALTY_WINDOW: Final = 1 << 15
"""Tokens a penalty looks back; llama.cpp looks at 64 unless told, OpenAI at all of them."""
_SPACING: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
GONE: Final = "the engine process went away"
SILENT: Final = "the engine process fell silent"


class Timings(msgspec.Struct):
    """``predicted_n``: tokens generated so far, exact also where ids or text are late."""

    predicted_n: int = 0


class Progress(msgspec.Struct):
    """``processed``: prompt tokens read so far, cached ones included."""

    processed: int = 0


class Refusal(msgspec.Struct):
    """An error object of the server."""

    message: str = ""
    type: str = ""
    code: int = 0


class Probability(msgspec.Struct):
    """A token with its probability; one that cannot be drawn has none."""

    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[Alternative] = []

    def told(self) -> TokenLogprob:
        """As OpenAI's clients read it."""
        return TokenLogprob(self.token, self.logprob, self.bytes, self.top_logprobs).numbered()


class Event(msgspec.Struct):
    """One server-sent event of an answer; progress events have no content, the last one has ``stop``."""

    content: str = ""
    tokens: tuple[int, ...] = ()
    prompt_progress: Progress | None = None
    stop: bool = False
    stop_type: str = ""
    timings: Timings | None = None
    completion_probabilities: tuple[Probability, ...] = ()
    error: Refusal | None = None


class _Rendered(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: tuple[int, ...]


class _Embedding(msgspec.Struct):
    embedding: list[list[float]]


class _Refused(msgspec.Struct):
    error: Refusal


_EVENT = msgspec.json.Decoder(Event)


class LlamaClient:
    """Requests to the child at ``port`` of the loopback interface.

    Args:
        port: where it listens.
        api_key: its key.
        connections: how many of its HTTP threads may be held at once.
        stall_timeout_s: longest silence after any request.
        on_stall: called when it was silent for longer.
    """

    def __init__(
        self, port: int, api_key: str, connections: int, stall_timeout_s: float, on_stall: Callable[[], None]
    ) -> None:
        self._on_stall = on_stall
        self._open: set[aiohttp.ClientResponse] = set()
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
            # The server drops idle connections after 5 s; dropping them earlier avoids the race.
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=3.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=stall_timeout_s),
            trust_env=False,
        )

    async def close(self) -> None:
        """End every running request; whoever waits for one gets ``EngineFailed``."""
        for response in tuple(self._open):
            response.close()  # closing the session alone leaves its reader waiting for ever
        await self._session.close()

    async def apply_template(
        self, messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]] = ()
    ) -> str:
        """The model's chat template over ``messages``. Raises ``InvalidRequest``, ``EngineFailed``."""
        body = {"messages": messages, **({"tools": tools} if tools else {})}
        answer = await self._post("/apply-template", body)
        return msgspec.json.decode(answer, type=_Rendered).prompt

    async def check_schema(self, schema: str) -> None:
        """Raises ``InvalidRequest`` when the server cannot hold an answer to ``schema``.

        The request for an answer does not tell: there the server goes on without the schema.
        """
        shape = {"type": "json_schema", "json_schema": {"schema": msgspec.Raw(schema.encode())}}
        await self._post("/apply-template", {"messages": [{"role": "user", "content": "x"}], "response_format": shape})

    async def embed(self, tokens: Sequence[int]) -> list[float]:
        """Mean of the model's last hidden states over ``tokens``, as it is (not of length 1); ≤ one physical batch."""
        answer = await self._post("/embedding", {"content": tokens, "embd_normalize": -1})
        return msgspec.json.decode(answer, type=list[_Embedding])[0].embedding[0]

    async def tokenize(self, text: str, *, whole_prompt: bool) -> tuple[int, ...]:
        """Ids of ``text``.

        Args:
            text: what to cut.
            whole_prompt: read control tokens written out in it, and add those the model wants at the start;
                otherwise ``text`` is a fragment of an answer and stands for itself.
        """
        body = {"content": text, "add_special": whole_prompt, "parse_special": whole_prompt}
        return msgspec.json.decode(await self._post("/tokenize", body), type=_Tokens).tokens

    async def busy_slots(self) -> int:
        """Slots at work right now, as the server sees it."""
        if self._session.closed:
            raise EngineFailed(GONE)
        try:
            async with self._session.get("/slots") as response:
                slots = msgspec.json.decode(await response.read(), type=list[dict[str, object]])
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise EngineFailed(GONE) from error
        return sum(slot.get("is_processing") is True for slot in slots)

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, cache_prompt: bool) -> "EventStream":
        """The stream of one answer; sent when first iterated."""
        body = _encode(completion_body(tokens, sampling, cache_prompt))
        return EventStream(self._session, body, self._open, self._on_stall)

    async def _post(self, path: str, body: Mapping[str, object]) -> bytes:
        """The answer to one request. Raises ``InvalidRequest`` where the server refuses, ``EngineFailed``."""
        data = _encode(body)
        if self._session.closed:
            raise EngineFailed(GONE)
        try:
            async with self._session.post(path, data=data) as response:
                self._open.add(response)
                try:
                    answer = await response.read()
                finally:
                    self._open.discard(response)
        except TimeoutError as error:
            self._on_stall()
            raise EngineFailed(SILENT) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise EngineFailed(GONE) from error
        except RuntimeError as error:
            if self._session.closed:
                raise EngineFailed(GONE) from error
            raise
        if response.status == 200:
            return answer
        raise _refusal(answer)


class EventStream:
    """One running answer on its own connection. Closing it, at any moment, is what frees the slot.

    Iteration raises:
        ContextLengthExceeded: the server says that the prompt is too long.
        InvalidRequest: the server refuses the request.
        EngineFailed: the server is gone, silent, or not understood.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        body: bytes,
        open_responses: set[aiohttp.ClientResponse],
        on_stall: Callable[[], None],
    ) -> None:
        self._session = session
        self._body = body
        self._open = open_responses
        self._on_stall = on_stall
        self._sending: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Send the request and read the answer; once only."""
        if self._session.closed:
            raise EngineFailed(GONE)
        self._sending = asyncio.create_task(self._send())
        try:
            response = await self._sending
            self._open.add(response)
            if response.status != 200:
                raise _refusal(await response.read())
            rest = b""
            async for block in response.content.iter_any():
                lines = (rest + block).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line:
                        yield _event(line)
        except TimeoutError as error:
            self._on_stall()
            raise EngineFailed(SILENT) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise EngineFailed(GONE) from error
        except RuntimeError as error:
            if self._session.closed:
                raise EngineFailed(GONE) from error
            raise
        except asyncio.CancelledError:
            if self._closed:  # by another task, before the server answered: this task was not cancelled
                raise EngineFailed(GONE) from None
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """Drop the connection; idempotent."""
        self._closed = True
        if self._sending is None:
            return
        if not self._sending.done():
            self._sending.cancel()
            await asyncio.wait([self._sending])
        if not self._sending.cancelled() and self._sending.exception() is None:
            self._sending.result().close()
            self._open.discard(self._sending.result())

    async def _send(self) -> aiohttp.ClientResponse:
        # The server closes the connection after a stream while promising to keep it.
        return await self._session.post("/completion", data=self._body, headers={"Connection": "close"})


def completion_body(tokens: Sequence[int], sampling: Sampling, cache_prompt: bool) -> dict[str, object]:
    """The request for one answer.

    Everything that shapes the draw is named, so that no default of the server leaks into an answer that a
    third party shall replay from the quote: samplers top-k, top-p, temperature in this order and nothing
    else unless the request asks for it, and the seed modulo 2³² − 1.
    """
    shaping = sampling.shaping
    penalised = (shaping.presence_penalty, shaping.frequency_penalty, shaping.repeat_penalty) != (0.0, 0.0, 1.0)
    body: dict[str, object] = {
        "prompt": tokens,
        "n_predict": sampling.max_tokens,
        "seed": sampling.seed % SEED_RANGE,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": shaping.min_p,
        "repeat_penalty": shaping.repeat_penalty,
        "samplers": (
            *(("penalties",) if penalised else ()),
            "top_k",
            "top_p",
            *(("min_p",) if shaping.min_p else ()),
            "temperature",
        ),
        "stream": True,
        "return_tokens": True,
        "timings_per_token": True,
        "return_progress": True,
        "cache_prompt": cache_prompt,
    }
    if penalised:
        body |= {"presence_penalty": shaping.presence_penalty, "frequency_penalty": shaping.frequency_penalty}
        body["repeat_last_n"] = PENALTY_WINDOW
    if shaping.stop:
        body["stop"] = shaping.stop
    if shaping.logit_bias:
        body["logit_bias"] = shaping.logit_bias
    if shaping.schema is not None:
        body["json_schema"] = _compact(shaping.schema)
    if sampling.logprobs is not None:
        body["n_probs"] = max(1, sampling.logprobs)
    return body


def _compact(schema: str) -> object:
    """``schema`` with the grammar engine's option (llguidance) for JSON without free white space.

    Any JSON may be padded with blanks and newlines for ever, and a small model does so until its tokens end.
    """
    shape = msgspec.json.decode(schema)
    return {**shape, "x-guidance": _SPACING} if isinstance(shape, dict) else shape


def _event(line: bytes) -> Event:
    """The event in one line of a body."""
    try:
        if line.startswith(b"data: "):
            event = _EVENT.decode(memoryview(line)[6:])
        elif line.startswith(b"error: "):
            event = Event(error=msgspec.json.decode(memoryview(line)[7:], type=Refusal))
        else:
            return Event()
    except msgspec.MsgspecError as error:
        raise EngineFailed("the engine process sent something that is not an event") from error
    if event.error is not None:
        raise _error(event.error)
    return event


def _encode(body: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequest("the request holds something that JSON cannot carry", param="messages") from error


def _refusal(answer: bytes) -> ContextLengthExceeded | InvalidRequest | EngineFailed:
    try:
        return _error(msgspec.json.decode(answer, type=_Refused).error)
    except msgspec.MsgspecError:
        return EngineFailed("the engine process refused a request without a reason")


def _error(refusal: Refusal) -> ContextLengthExceeded | InvalidRequest | EngineFailed:
    # What follows a brace or a line break can be the caller's own text, which has no place in logs.
    reason = refusal.message.split("{", 1)[0].split("\n", 1)[0][:200].strip()
    if refusal.type == "exceed_context_size_error":
        return ContextLengthExceeded(reason)
    if refusal.type == "invalid_request_error":
        return InvalidRequest(reason)
    return EngineFailed(f"the engine process failed: {reason}")
