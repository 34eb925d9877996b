"""Chunks of an answer: what is held back, joined, dropped, and what their ids spell beside their text."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.market.scripted import CARD
from tirami.core.units import TokenCount
from tirami.infer import Chunk, FinishReason, ModelCard, Prompt, Sampling, Shaping
from tirami.infer.answer import ChildGeneration
from tirami.infer.ids import IdRecovery
from tirami.infer.llama import Alternative, Event, Probability, Timings
from tirami.infer.vocabulary import Fragments
from tirami.infer.wording import Wording

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


def generation(sampling: Sampling, *events: Event, wording: Wording | None = None) -> ChildGeneration:
    """Its tokenizer is not understood, unless there is a ``wording``."""
    return spelling(wording or Wording(), CARD, PROMPT, sampling, *events)


def spelling(wording: Wording, card: ModelCard, prompt: Prompt, sampling: Sampling, *events: Event) -> ChildGeneration:
    """The answer of a child whose server says ``events``."""
    stream: Any = Events(*events)
    client: Any = None
    spelled = {number: wording.spell([number]) or b"" for number in range(len(wording))}
    fragments = {piece: number for number, piece in spelled.items() if "\ufffd" in piece.decode(errors="replace")}
    return ChildGeneration(card, prompt, sampling, stream, IdRecovery(client, Fragments(fragments)), wording, lambda: 0)


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


CAT = "猫".encode()
PIECES = Wording([b"", CAT[:1], CAT[1:], b"\x9f\x98", b"foo", b"foo.", b".", b"<end>"])
"""Token 3 is never text; token 0 ends a turn."""


def merged(text: str, last: int, count: int) -> Event:
    return Event(content=text, tokens=(last,), timings=Timings(predicted_n=count))


async def made(*events: Event, stop: tuple[str, ...] = ()) -> tuple[list[Chunk], ChildGeneration]:
    running = generation(Sampling(max_tokens=9, seed=1, shaping=Shaping(stop=stop)), *events, wording=PIECES)
    return [chunk async for chunk in running], running


@pytest.mark.parametrize(("kind", "reason"), [("limit", FinishReason.LENGTH), ("eos", FinishReason.STOP)])
async def test_tokens_that_only_begin_a_character_are_neither_shown_nor_billed(kind: str, reason: FinishReason) -> None:
    """The server names none of them, and sends no text."""
    told, running = await made(said("foo", 4, 1), end(kind, 3))
    assert told == [Chunk("foo", (4,), TokenCount(1))]
    assert running.finish_reason is reason
    assert running.reading().ids_complete, "of what was handed out"
    assert running.reading().completion_tokens == 3, "what the engine did is another matter"


async def test_an_answer_may_be_nothing_but_the_beginning_of_a_character() -> None:
    told, running = await made(end("limit", 2))
    assert told == []
    assert running.finish_reason is FinishReason.LENGTH


async def test_bytes_that_are_no_text_are_told_beside_it() -> None:
    told, running = await made(said("foo", 4, 1), said("\ufffd\ufffd", 3, 2), end("limit", 2))
    assert told[1] == Chunk("\ufffd\ufffd", (3,), TokenCount(2), raw=b"\x9f\x98")
    assert told[0].spelled + told[1].spelled == b"foo\x9f\x98"
    assert running.reading().ids_complete


async def test_ids_that_are_lost_are_said_to_be() -> None:
    """Bytes that are no text, merged: what they were cannot be seen any more."""
    told, running = await made(merged("\ufffdfoo", 4, 2), end("limit", 2))
    assert told == [Chunk("\ufffdfoo", (), TokenCount(2))]
    assert not running.reading().ids_complete


async def test_ids_that_spell_something_else_are_not_told() -> None:
    told, running = await made(said("foo", 6, 1), end("limit", 1))
    assert told == [Chunk("foo", (), TokenCount(1))]
    assert not running.reading().ids_complete


async def test_a_stop_text_may_stand_inside_a_token() -> None:
    told, running = await made(said("foo", 5, 1), end("word", 1), stop=(".",))
    assert told == [Chunk("foo", (5,), TokenCount(1), raw=b"foo.")]
    assert running.finish_reason is FinishReason.STOP


async def test_a_stop_text_may_stand_in_tokens_that_were_held_back() -> None:
    told, _ = await made(said("", 5, 1), said("foo", 6, 2), end("word", 2), stop=("..",))
    assert told == [Chunk("foo", (5, 6), TokenCount(2), raw=b"foo..")]


@pytest.mark.parametrize("kind", ["limit", "eos"])
async def test_what_seemed_to_begin_a_stop_text_is_shown_when_the_answer_ends(kind: str) -> None:
    """The server drops that text, though not its ids; the tokens behind it began a character."""
    told, _ = await made(said("foo", 4, 1), said("", 6, 2), end(kind, 4), stop=(".x",))
    assert told == [Chunk("foo", (4,), TokenCount(1)), Chunk(".", (6,), TokenCount(2))]


async def test_a_turn_that_ends_keeps_its_last_token() -> None:
    told, _ = await made(said("foo", 4, 1), said("", 0, 2), end("eos", 2), stop=(".x",))
    assert told == [Chunk("foo", (4,), TokenCount(1)), Chunk("", (0,), TokenCount(2))]


async def test_what_was_held_back_before_lost_ids_is_lost_with_them() -> None:
    told, running = await made(said("", 6, 1), merged(".\ufffdfoo", 4, 3), end("limit", 3), stop=(".x",))
    assert told == [Chunk(".\ufffdfoo", (), TokenCount(3))]
    assert not running.reading().ids_complete
