"""One running answer of the engine child, with its meter."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace

from tirami.core.errors import EngineFailed, TiramiError
from tirami.core.units import TokenCount
from tirami.infer.engine import Chunk, CountedBy, FinishReason, ModelCard, Prompt, Reading, Sampling, TokenLogprob
from tirami.infer.flop import flop
from tirami.infer.ids import IdRecovery
from tirami.infer.llama import Event, EventStream
from tirami.infer.wording import Wording, shown

_NO_TEXT = "\ufffd"
"""Stands where bytes are no text; servers differ in how often."""


class ChildGeneration:
    """A :class:`~tirami.infer.engine.Generation` over a stream of llama.cpp events.

    Args:
        card: the model, for the FLOP formula.
        prompt: what is answered.
        sampling: how.
        stream: the connection, not yet sent.
        recovery: finds the ids that the server withholds.
        wording: what ids spell.
        peak_memory: bytes, asked when a reading is taken.
    """

    def __init__(
        self,
        card: ModelCard,
        prompt: Prompt,
        sampling: Sampling,
        stream: EventStream,
        recovery: IdRecovery,
        wording: Wording,
        peak_memory: Callable[[], int],
    ) -> None:
        self._card = card
        self._prompt = prompt
        self._stream = stream
        self._recovery = recovery
        self._wording = wording
        self._peak_memory = peak_memory
        self._stop = sampling.shaping.stop
        self._top_logprobs = sampling.logprobs
        self._held: list[Chunk] = []
        """Without text: perhaps the beginning of a text that ends the answer and is neither shown nor billed."""
        self._chunks = self._run()
        self._finish_reason: FinishReason | None = None
        self._prompt_tokens = 0
        self._count = 0
        self._ids_complete = True
        self._sent_at: float | None = None
        self._first_at: float | None = None
        self._ended_at: float | None = None

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._finish_reason

    def end(self, reason: FinishReason) -> None:
        """The first reason stands, and the clock with it."""
        if self._finish_reason is None:
            self._finish_reason = reason
            self._ended_at = time.perf_counter()

    def reading(self) -> Reading:
        sent = self._sent_at
        now = self._ended_at or time.perf_counter()
        return Reading(
            prompt_tokens=TokenCount(self._prompt_tokens),
            completion_tokens=TokenCount(self._count),
            flop=flop(self._card, self._prompt_tokens, self._count),
            ttft_ms=None if sent is None or self._first_at is None else (self._first_at - sent) * 1000,
            wall_ms=0.0 if sent is None else (now - sent) * 1000,
            peak_memory_bytes=self._peak_memory(),
            ids_complete=self._ids_complete,
            counted_by=CountedBy.ENGINE,
        )

    async def close(self) -> None:
        """Drop the connection, wherever the answer stands; idempotent."""
        await self._stream.close()
        with contextlib.suppress(RuntimeError):  # another task is inside; the closed connection ends it
            await self._chunks.aclose()
        self.end(FinishReason.CANCELLED)

    async def _run(self) -> AsyncGenerator[Chunk, None]:
        self._sent_at = time.perf_counter()
        try:
            async with contextlib.aclosing(self._stream.events()) as events:
                async for event in events:
                    chunk = await self._chunk(event)
                    if event.stop:
                        self.end(FinishReason.LENGTH if event.stop_type == "limit" else FinishReason.STOP)
                    if self._stop:
                        chunk = self._after_held(chunk, event)
                    if chunk is not None:
                        yield self._spelled(chunk, event)
                    if event.stop:
                        return
            raise EngineFailed("the engine process broke off an answer")
        except TiramiError:
            self.end(FinishReason.FAILED)
            raise
        finally:
            self.end(FinishReason.CANCELLED)

    async def _chunk(self, event: Event) -> Chunk | None:
        """Count an event; ``None`` where it brings neither text nor tokens."""
        if event.prompt_progress is not None:
            self._prompt_tokens = event.prompt_progress.processed
            return None
        count = max(self._count, event.timings.predicted_n if event.timings else 0)
        grown = count - self._count
        if not grown and not event.content:
            return None
        ids: tuple[int, ...] | None = event.tokens
        if len(event.tokens) != grown:
            last = event.tokens[-1:]
            ids = await self._recovery.recover(event.content, last[0], grown) if last else None
        if self._first_at is None:
            self._first_at = time.perf_counter()
        self._prompt_tokens = self._prompt.count
        self._count = count
        if event.stop and not event.content and not ids:
            return None  # they began a character of which the rest did not come: neither shown nor billed
        return Chunk(event.content, ids or (), TokenCount(count), self._logprobs(event))

    def _spelled(self, chunk: Chunk, event: Event) -> Chunk:
        """``chunk`` with what its ids spell, if that is not its text; without them where they spell something else."""
        spelled = self._wording.spell(chunk.ids) if chunk.ids else None
        if spelled is not None and spelled != chunk.text.encode():
            seen = shown(spelled, self._stop)
            lost = event.stop and not chunk.text  # what seemed to begin a stop text, and did not
            if seen.whole and (lost or _alike(seen.text, chunk.text)):
                return replace(chunk, text=seen.text, raw=None if seen.text.encode() == spelled else spelled)
            chunk = replace(chunk, ids=())
        self._ids_complete &= bool(chunk.ids)
        return chunk

    def _logprobs(self, event: Event) -> tuple[TokenLogprob, ...]:
        if self._top_logprobs is None or not event.completion_probabilities:
            return ()
        told = tuple(probability.told() for probability in event.completion_probabilities)
        for token in told:
            del token.top_logprobs[self._top_logprobs :]
        return told

    def _after_held(self, chunk: Chunk | None, event: Event) -> Chunk | None:
        """Join ``chunk`` to what was held back, or hold it back too."""
        if chunk is not None and not chunk.text and not event.stop:
            self._held.append(chunk)
            return None
        pieces = [*self._held, *([chunk] if chunk is not None else [])]
        if (chunk is None and (not event.stop or event.stop_type == "word")) or not pieces:
            return None
        self._held = []
        known = all(piece.ids for piece in pieces)
        return Chunk(
            chunk.text if chunk is not None else "",
            tuple(number for piece in pieces for number in piece.ids) if known else (),
            pieces[-1].count,
            tuple(told for piece in pieces for told in piece.logprobs),
        )


def _alike(one: str, other: str) -> bool:
    """Whether they are the same text, but for what is none in both."""
    return one.replace(_NO_TEXT, "") == other.replace(_NO_TEXT, "") and (_NO_TEXT in one) == (_NO_TEXT in other)
