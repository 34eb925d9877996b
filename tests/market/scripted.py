"""A scripted engine inside the test process. A fake: it answers with numbers, counts tokens and stalls on demand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tirami.core.errors import EngineFailed
from tirami.core.keys import sha256
from tirami.core.units import Flop, TokenCount
from tirami.infer import (
    Chunk,
    CountedBy,
    EngineStatus,
    FinishReason,
    Message,
    ModelCard,
    Prompt,
    Reading,
    Sampling,
    Tools,
)
from tirami.infer import flop as flop_of
from tirami.infer.embedding import EmbeddingGeneration, Vectors, vector_text

CARD = ModelCard(
    name="scripted",
    digest=sha256(b"scripted"),
    tokenizer_digest=sha256(b"scripted tokenizer"),
    context_length=4096,
    parameters=10**9,
    active_parameters=10**9,
    layers=10,
    hidden=100,
    quantization="none",
    size_bytes=0,
    counted_by=CountedBy.ENGINE,
)


class ScriptedGeneration:
    def __init__(self, engine: "ScriptedEngine", prompt: Prompt, sampling: Sampling) -> None:
        self._engine, self._prompt, self._sampling = engine, prompt, sampling
        self._count = 0
        self.finish_reason: FinishReason | None = None

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        length = min(self._sampling.max_tokens, self._engine.length)
        for i in range(0, length, self._engine.together):
            if self._engine.fail_after is not None and i >= self._engine.fail_after:
                raise EngineFailed("scripted failure")
            if self._engine.stall_after is not None and i >= self._engine.stall_after:
                await self._engine.stall()
            await asyncio.sleep(self._engine.delay)
            ids = tuple(range(i, min(i + self._engine.together, length)))
            self._count += len(ids)
            pieces, unnamed = self._engine.pieces, self._engine.unnamed_after
            text = pieces[i] if pieces else "".join(f"{number} " for number in ids)
            yield Chunk(text, ids if unnamed is None or i < unnamed else (), TokenCount(self._count))
        limit = self._count == self._sampling.max_tokens
        self.finish_reason = FinishReason.LENGTH if limit else FinishReason.STOP

    def end(self, reason: FinishReason) -> None:
        self.finish_reason = self.finish_reason or reason

    def reading(self) -> Reading:
        count = TokenCount(self._count)
        return Reading(
            prompt_tokens=self._prompt.count,
            completion_tokens=count,
            flop=Flop(flop_of(CARD, self._prompt.count, count)),
            ttft_ms=1.0,
            wall_ms=2.0,
            peak_memory_bytes=0,
            ids_complete=True,
            counted_by=CountedBy.ENGINE,
        )


class ScriptedEngine:
    """``length`` tokens an answer, numbers or ``pieces``; ``fail_after`` raises, ``stall_after`` sets ``stalled`` and
    waits for ``resume``; from ``unnamed_after`` on no ids are told.

    ``opened`` counts answers begun, ``running`` those not ended, ``waiting`` those that stall.
    """

    def __init__(self, length: int = 10) -> None:
        self.length = length
        self.pieces: Sequence[str] = ()
        self.together = 1
        """Tokens a chunk."""
        self.delay = 0.0
        self.fail_after: int | None = None
        self.unnamed_after: int | None = None
        self.stall_after: int | None = None
        self.stalled, self.resume = asyncio.Event(), asyncio.Event()
        self.opened = 0
        self.running = 0
        self.waiting = 0
        self.card = CARD
        self.slots = 8

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def status(self) -> EngineStatus:
        return EngineStatus(True, self.slots, self.running, 0, "scripted")

    async def stall(self) -> None:
        self.stalled.set()
        self.waiting += 1
        try:
            await self.resume.wait()
        finally:
            self.waiting -= 1

    async def prepare(
        self, messages: Sequence[Message], tools: Tools | None = None, schema: str | None = None
    ) -> Prompt:
        text = " ".join(str(message["content"]) for message in messages)
        ids = tuple(range(len(text.split())))
        return Prompt(ids, TokenCount(len(ids)), True, text, messages, tools)

    async def prepare_text(self, text: str | Sequence[int], schema: str | None = None) -> Prompt:
        ids = tuple(range(len(text.split()))) if isinstance(text, str) else tuple(text)
        return Prompt(ids, TokenCount(len(ids)), True, text if isinstance(text, str) else "", ())

    @asynccontextmanager
    async def embed(
        self, inputs: Sequence[Prompt], dimensions: int | None = None
    ) -> AsyncIterator[EmbeddingGeneration]:
        async def vectors() -> Vectors:
            for prompt in inputs:
                if self.fail_after is not None:
                    raise EngineFailed("scripted failure")
                yield vector_text([float(token + 1) for token in prompt.tokens[:3]]), prompt.count

        yield EmbeddingGeneration(CARD, vectors(), CountedBy.ENGINE, lambda: 0.0)

    @asynccontextmanager
    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[ScriptedGeneration]:
        self.opened += 1
        self.running += 1
        try:
            yield ScriptedGeneration(self, prompt, sampling)
        finally:
            self.running -= 1
