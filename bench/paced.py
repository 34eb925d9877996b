"""A node whose model is a fake at a fixed rate: ``python -m bench.paced COMMAND …`` for ``tirami COMMAND …``.

Prompts, tokens and all around them are the installed model's own; only its answers are not: one text, over and over,
its first token after :data:`FIRST_MS`, every other :data:`EACH_MS` after the one before. So two ways to the same answer
can be compared without a model that takes a core from both.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tirami import cli
from tirami.infer import Sampling
from tirami.infer.llama import Event, LlamaClient, Progress, Timings

FIRST_MS, EACH_MS = 100, 10
PIECES = ("The", " dog", " ran", " to", " the", " sea", ".")


class Paced:
    """In the place of :class:`tirami.infer.llama.EventStream`."""

    def __init__(self, client: LlamaClient, prompt: Sequence[int], sampling: Sampling) -> None:
        self._client = client
        self._prompt = len(prompt)
        self._tokens = sampling.max_tokens

    async def events(self) -> AsyncGenerator[Event, None]:
        due = time.perf_counter() + FIRST_MS / 1000
        ids = [await self._client.tokenize(piece, whole_prompt=False) for piece in PIECES]
        assert all(len(found) == 1 for found in ids), ids
        yield Event(prompt_progress=Progress(self._prompt))
        for number in range(self._tokens):
            await asyncio.sleep(due - time.perf_counter())
            due += EACH_MS / 1000
            which = number % len(PIECES)
            yield Event(PIECES[which], ids[which], timings=Timings(predicted_n=number + 1))
        yield Event(stop=True, stop_type="limit", timings=Timings(predicted_n=self._tokens))

    async def close(self) -> None:
        """Nothing is open."""


def complete(client: LlamaClient, tokens: Sequence[int], sampling: Sampling, **_: Any) -> Paced:
    return Paced(client, tokens, sampling)


if __name__ == "__main__":
    LlamaClient.complete = complete  # type: ignore[assignment,method-assign]
    cli.main()
