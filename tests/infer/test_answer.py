"""Chunks of an answer that may be cut by a stop text: what is held back, joined, dropped."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.market.scripted import CARD
from tirami.core.units import TokenCount
from tirami.infer import FinishReason, Prompt, Sampling, Shaping
from tirami.infer.answer import ChildGeneration
from tirami.infer.llama import Alternative, Event, Probability, Timings

PROMPT = Prompt((1, 2), TokenCount(2), True, "", ())


class Events:
    """A stream that says what it is told."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    async def events(self) -> AsyncGenerator[Event, None]:
        for event in self._events:
            yield event

    async def close(self) -> None: ...


def said(text: str, token: int, count: int) -> Event:
    return Event(content=text, tokens=(token,), timings=Timings(predicted_n=count))


def end(kind: str, count: int) -> Event:
    return Event(stop=True, stop_type=kind, timings=Timings(predicted_n=count))


def generation(sampling: Sampling, *events: Event) -> ChildGeneration:
    stream: Any = Events(*events)
    recovery: Any = None
    return ChildGeneration(CARD, PROMPT, sampling, stream, recovery, lambda: 0)


async def chunks(*events: Event, stop: tuple[str, ...] = ("x",)) -> tuple[list[tuple[str, tuple[int, ...], int]], Any]:
    running = generation(Sampling(max_tokens=9, seed=1, shaping=Shaping(stop=stop)), *events)
    return [(chunk.text, chunk.ids, chunk.count) async for chunk in running], running


async def test_tokens_of_a_stop_text_are_neither_shown_nor_billed() -> None:
    told, running = await chunks(said("a", 1, 1), said("", 2, 2), said("", 3, 3), end("word", 3))
    assert told == [("a", (1,), 1)]
    assert running.finish_reason is FinishReason.STOP
    assert running.reading().completion_tokens == 3, "what the engine did is another matter"


async def test_what_was_held_back_for_nothing_comes_with_the_next_text() -> None:
    told, _ = await chunks(said("a", 1, 1), said("", 2, 2), said("bc", 3, 3), end("limit", 3))
    assert told == [("a", (1,), 1), ("bc", (2, 3), 3)]


@pytest.mark.parametrize("kind", ["limit", "eos"])
async def test_an_answer_that_ends_otherwise_keeps_its_last_tokens(kind: str) -> None:
    told, _ = await chunks(said("a", 1, 1), said("", 2, 2), end(kind, 2))
    assert told == [("a", (1,), 1), ("", (2,), 2)]


async def test_nothing_is_held_where_nothing_stops() -> None:
    told, _ = await chunks(said("", 1, 1), said("a", 2, 2), end("limit", 2), stop=())
    assert told == [("", (1,), 1), ("a", (2,), 2)]


async def test_probabilities_are_as_many_as_were_asked_for() -> None:
    for most in (0, 1, 2):
        told = Probability("a", None, [97], [Alternative("a", -0.1, [97]), Alternative("b", None, [98])])
        event = Event(content="a", tokens=(1,), timings=Timings(predicted_n=1), completion_probabilities=(told,))
        running = generation(Sampling(max_tokens=1, seed=1, logprobs=most), event, end("limit", 1))
        ((token,),) = [list(chunk.logprobs) async for chunk in running]
        assert (token.logprob, len(token.top_logprobs)) == (-9999.0, most)
        assert all(other.logprob is not None for other in token.top_logprobs)
