"""The engine interface: what the node asks of anything that can answer a prompt.

Behind it stand a supervised llama.cpp child (:mod:`tirami.infer.child`) and any OpenAI-compatible URL
(:mod:`tirami.infer.upstream`). Neither knows about money: an engine prepares a prompt, streams an answer and
reports a :class:`Reading` of what it did; everything else is the market's business.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from tirami.core.keys import Digest
from tirami.core.units import Flop, TokenCount
from tirami.infer.shaping import Shaping
from tirami.infer.tools import Tools

Message = Mapping[str, object]
NEVER = -9999.0
"""Log-probability of a token that cannot be drawn, as OpenAI says it."""


class FinishReason(StrEnum):
    """Why an answer ended. Outside the signed trade (PROTOCOL B10)."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    KILLED = "killed"
    STOPPED = "node_stopped"
    FAILED = "provider_failed"
    UNCHECKABLE = "uncheckable"
    """The answer goes on with tokens whose ids the engine does not tell, so a payer elsewhere could not check them."""
    BARRED = "key_barred"
    """The key at the other side was convicted, or has ended: nothing more is promised with it."""
    IDLE = "idle_timeout"
    """Bought of a peer, and not read on in time here: it could not know whether somebody would still pay."""


class CountedBy(StrEnum):
    """Who counted the completion tokens of a reading."""

    ENGINE = "engine"
    """Our own llama.cpp child: exact, by id."""
    UPSTREAM = "upstream"
    """A foreign server's word; such answers are not sold on the mesh."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is served, priced and signed.

    Attributes:
        name: the id clients use, for example ``smollm2:135m``.
        digest: SHA-256 of the model file (of a labelled URL and id for an upstream).
        tokenizer_digest: SHA-256 of the GGUF bytes before the tensor data (PROTOCOL B10).
        context_length: tokens of one slot, prompt and answer together.
        parameters: all weights.
        active_parameters: weights touched per token (equal to ``parameters`` unless mixture of experts).
        layers: transformer blocks, L of the attention term.
        hidden: hidden width h of the attention term.
        quantization: for example ``Q4_1``; ``unknown`` where it cannot be read.
        size_bytes: size of the file on disk, 0 for an upstream.
        counted_by: who will count the tokens of answers.
        trained_context: tokens the model itself could take, 0 where it does not say.
    """

    name: str
    digest: Digest
    tokenizer_digest: Digest
    context_length: int
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    quantization: str
    size_bytes: int
    counted_by: CountedBy
    trained_context: int = 0

    @property
    def context_limit(self) -> str:
        """Whose limit ``context_length`` is, in the words of an error."""
        if self.context_length < self.trained_context:
            return f"this node allows {self.context_length} a request (infer.context)"
        return f"the model's context is {self.context_length}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw an answer. It is in the signed quote or, ``shaping``, under its prompt hash: it can be replayed."""

    max_tokens: int
    seed: int
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    """0 switches the cut off."""
    shaping: Shaping = Shaping()
    logprobs: int | None = None
    """Alternatives to report for each token; ``None`` reports nothing. Does not change the answer."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        tokens: ids as the engine will read them; empty when the engine has no tokenizer.
        count: prompt tokens. Exact when ``exact``; otherwise an upper bound used for the hold only.
        exact: whether ``count`` is what will be billed.
        text: the rendered text, for the keyed prompt hash; never logged, never stored.
        messages: the chat messages, for engines that render themselves; empty for a prompt that is no chat.
        tools: what the model may call, for those engines.
    """

    tokens: tuple[int, ...]
    count: TokenCount
    exact: bool
    text: str
    messages: Sequence[Message]
    tools: Tools | None = None


class Alternative(msgspec.Struct):
    """A token that might have been drawn, with the natural logarithm of its probability."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct):
    """A token of an answer with its probability, as OpenAI's clients read it."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[Alternative] = []

    def numbered(self) -> "TokenLogprob":
        """With a number for every token: −9999 for one that cannot be drawn, which engines call ``null``."""
        self.logprob = NEVER if self.logprob is None else self.logprob
        for other in self.top_logprobs:
            other.logprob = NEVER if other.logprob is None else other.logprob
        return self


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        text: decoded text, always whole characters; may be empty. Of an embedding: its vector, base64 of
            little-endian 32-bit floats.
        ids: token ids of this piece; empty where they are not known.
        count: completion tokens of the answer so far, this piece included; never falls. Of embeddings: vectors.
        logprobs: of the tokens in this piece, where asked for; tokens merged into one character are missing.
        reasoning: what the model thought before ``text``, where an upstream tells the two apart; counted as well.
        raw: what ``ids`` spell, where that is not ``text``: bytes that are no text, for which ``text`` has U+FFFD, or
            a stop text that ends the answer after it.
    """

    text: str
    ids: tuple[int, ...]
    count: TokenCount
    logprobs: Sequence[TokenLogprob] = ()
    reasoning: str = ""
    raw: bytes | None = None

    @property
    def spelled(self) -> bytes:
        """What is hashed of it (PROTOCOL B12)."""
        return (self.reasoning + self.text).encode() if self.raw is None else self.raw


@dataclass(frozen=True, slots=True)
class Reading:
    """The meter reading of one call (L0-09), valid at any moment of it.

    Attributes:
        prompt_tokens: prompt tokens read by the engine; an estimate where an upstream's answer ended and it told none.
        completion_tokens: tokens generated; the last ones may not have been handed out, because they only began a
            character or spelled a stop text, and those are not billed.
        flop: ``2·N_active`` a token plus the attention term (see :mod:`tirami.infer.flop`).
        ttft_ms: time to first token, milliseconds; ``None`` before it.
        wall_ms: time since the request was sent, milliseconds.
        peak_memory_bytes: the engine process's peak resident size; 0 where it is not ours to see.
        ids_complete: whether the id of every token that was handed out is known.
        counted_by: who counted.
        reasoning_tokens: of ``completion_tokens`` those that are no part of the answer's text, as far as it is known.
    """

    prompt_tokens: TokenCount
    completion_tokens: TokenCount
    flop: Flop
    ttft_ms: float | None
    wall_ms: float
    peak_memory_bytes: int
    ids_complete: bool
    counted_by: CountedBy
    reasoning_tokens: TokenCount = TokenCount(0)


class Generation(Protocol):
    """One running answer: iterate for chunks, then ask why it ended and what it took.

    Iteration raises :class:`~tirami.core.errors.EngineFailed` when the engine dies; what was yielded before stays
    delivered and counted.
    """

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """``None`` while running."""

    def end(self, reason: FinishReason) -> None:
        """No further chunk will be asked for: what is read from now on is final. The first reason stands."""

    def reading(self) -> Reading: ...


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Health of an engine: ``ready`` to take requests, ``busy`` of ``slots`` in use, ``restarts`` since start.

    ``device`` is what it computes on, in its own words, ``layers_offloaded`` how many of the model's layers lie on a
    GPU; empty and ``None`` where the engine does not tell.
    """

    ready: bool
    slots: int
    busy: int
    restarts: int
    detail: str
    device: str = ""
    layers_offloaded: int | None = None


class Engine(Protocol):
    """Anything that can answer a prompt.

    ``start`` loads and returns when the engine can answer, or raises ``ModelLoadError``; ``close`` ends every
    process and connection it owns. ``generate`` is a context manager: leaving it cancels the answer, and the slot
    is free within 200 ms while tokens flow, within 1 s during prompt processing.
    """

    @property
    def card(self) -> ModelCard: ...

    @property
    def slots(self) -> int: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> EngineStatus: ...

    async def prepare(
        self, messages: Sequence[Message], tools: Tools | None = None, schema: str | None = None
    ) -> Prompt:
        """Render the chat template and tokenise; refuse a ``schema`` that answers cannot be held to.

        Raises ``InvalidRequest``, ``EngineFailed``.
        """

    async def prepare_text(self, text: str | Sequence[int], schema: str | None = None) -> Prompt:
        """A prompt that is no chat: text, or token ids; refuse a ``schema`` that answers cannot be held to.

        Raises ``InvalidRequest``, ``EngineFailed``.
        """

    def generate(self, prompt: Prompt, sampling: Sampling) -> AbstractAsyncContextManager[Generation]: ...

    def embed(self, inputs: Sequence[Prompt], dimensions: int | None = None) -> AbstractAsyncContextManager[Generation]:
        """One chunk with the vector of each input, of length 1."""
