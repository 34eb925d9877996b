"""Embeddings: a :class:`~tirami.infer.engine.Generation` whose chunks are vectors.

A model made for embeddings says in its file how its last hidden states become one vector; the child then computes a
whole input as one physical batch, and does what the file says. Of any other model it takes the mean. A physical batch
is small, so that a closed connection is noticed soon, and one batch is the most it can take a mean over. A longer
input is read in windows of that size, each by itself, and their means are weighed by their tokens: one rule for every
length.
"""

import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from math import sqrt
from typing import Final

from tirami.core.errors import TiramiError
from tirami.core.units import TokenCount
from tirami.infer.batch import BATCH
from tirami.infer.engine import Chunk, CountedBy, FinishReason, ModelCard, Reading
from tirami.infer.flop import flop
from tirami.infer.gguf import Header

WINDOW: Final = BATCH
"""Tokens; no physical batch of a child is smaller."""

POOLINGS: Final = {1: "mean", 2: "cls", 3: "last"}
"""By the number that a file says, those that make one vector of an input; there are others, for rerankers."""

Vectors = AsyncIterator[tuple[str, int]]
"""Vectors as text, each with the tokens read for it."""


class EmbeddingGeneration:
    """Yields one vector an input.

    Args:
        card: the model.
        vectors: where they come from; asked when iterated.
        counted_by: who counts the tokens.
        monotonic: seconds.
        peak_memory: bytes, asked when a reading is taken.
    """

    def __init__(
        self,
        card: ModelCard,
        vectors: Vectors,
        counted_by: CountedBy,
        monotonic: Callable[[], float],
        peak_memory: Callable[[], int] = lambda: 0,
    ) -> None:
        self._card = card
        self._vectors = vectors
        self._counted_by = counted_by
        self._monotonic = monotonic
        self._peak_memory = peak_memory
        self._began = monotonic()
        self._ended: float | None = None
        self._read = 0
        self._written = 0
        self._finish: FinishReason | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._finish

    def end(self, reason: FinishReason) -> None:
        """The first reason stands, and the clock with it."""
        if self._finish is None:
            self._finish, self._ended = reason, self._monotonic()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            async for vector, tokens in self._vectors:
                self._read += tokens
                self._written += 1
                yield Chunk(vector, (), TokenCount(self._written))
        except TiramiError:
            self.end(FinishReason.FAILED)
            raise
        self.end(FinishReason.STOP)

    def reading(self) -> Reading:
        now = self._monotonic() if self._ended is None else self._ended
        return Reading(
            prompt_tokens=TokenCount(self._read),
            completion_tokens=TokenCount(self._written),
            flop=flop(self._card, self._read, self._written),
            ttft_ms=None,
            wall_ms=(now - self._began) * 1000,
            peak_memory_bytes=self._peak_memory(),
            ids_complete=self._counted_by is CountedBy.ENGINE,
            counted_by=self._counted_by,
        )


def declared_pooling(header: Header) -> str | None:
    """How the model's vectors are made, in llama.cpp's word; ``None`` where its file does not say, empty for no way
    that makes one of an input."""
    told = header.values.get(f"{header.architecture}.pooling_type")
    if told is None:
        return None
    return POOLINGS.get(told, "") if isinstance(told, int) else ""


async def whole(inputs: Sequence[Sequence[int]], pooled: Callable[[Sequence[int]], Awaitable[list[float]]]) -> Vectors:
    """Vectors of token sequences, each as the model makes it."""
    for tokens in inputs:
        yield vector_text(await pooled(tokens)), len(tokens)


async def windowed(inputs: Sequence[Sequence[int]], mean: Callable[[Sequence[int]], Awaitable[list[float]]]) -> Vectors:
    """Vectors of token sequences; ``mean`` is the engine's over at most ``WINDOW`` tokens."""
    for tokens in inputs:
        total: list[float] = []
        for start in range(0, len(tokens), WINDOW):
            window = tokens[start : start + WINDOW]
            vector = await mean(window)
            total = [a + b * len(window) for a, b in zip(total or [0.0] * len(vector), vector, strict=True)]
        yield vector_text(total), len(tokens)


def vector_text(vector: Sequence[float]) -> str:
    """Base64 of ``vector`` at length 1, as little-endian 32-bit floats: the API's own form."""
    length = sqrt(sum(value * value for value in vector)) or 1.0
    return b64encode(struct.pack(f"<{len(vector)}f", *(value / length for value in vector))).decode()
