"""What every engine promises: the real child and the testing engine behind an upstream URL, the same tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tirami.core.clock import SystemClock
from tirami.core.errors import ContextLengthExceeded, EngineFailed
from tirami.infer import (
    ChildEngine,
    Chunk,
    CountedBy,
    Engine,
    FinishReason,
    Generation,
    Prompt,
    Reading,
    Sampling,
    UpstreamEngine,
    default_models_dir,
    flop,
    resolve,
)
from tirami.testing import EngineProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Subject:
    """An engine, who counts for it, and its own word on how many answers it computes."""

    engine: Engine
    counted_by: CountedBy
    busy: Callable[[], Awaitable[int]]

    async def ask(self, words: str, directive: str = "") -> Prompt:
        return await self.engine.prepare([{"role": "user", "content": f"{words} {directive}".strip()}])

    async def until_busy(self, count: int, within_s: float) -> float:
        """Wait until the engine computes ``count`` answers; how long that took."""
        began = time.monotonic()
        while await self.busy() != count:
            assert time.monotonic() - began < within_s, f"not {count} busy within {within_s} s"
            await asyncio.sleep(0.002)
        return time.monotonic() - began


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[pytest.param("child", marks=pytest.mark.model), "upstream"]
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "child":
        model = await asyncio.to_thread(resolve, "smollm2:135m")
        # Of one compute thread: more of them wait for each other on a busy machine.
        child = ChildEngine(model.path, name=model.name, threads=1, models_dir=default_models_dir())
        await child.start()

        async def busy_child() -> int:
            assert child._link is not None
            return await child._link.client.busy_slots()

        yield Subject(child, CountedBy.ENGINE, busy_child)
        await child.close()
    else:
        with EngineProcess() as process:
            upstream = UpstreamEngine(process.url, clock=SystemClock())
            await upstream.start()
            yield Subject(upstream, CountedBy.UPSTREAM, lambda: asyncio.to_thread(process.busy))
            await upstream.close()


def sampling(max_tokens: int, seed: int = 7) -> Sampling:
    return Sampling(max_tokens=max_tokens, seed=seed)


async def collect(subject: Subject, prompt: Prompt, how: Sampling) -> tuple[list[Chunk], Reading, FinishReason | None]:
    async with subject.engine.generate(prompt, how) as generation:
        chunks = [chunk async for chunk in generation]
        return chunks, generation.reading(), generation.finish_reason


async def first_chunk(generation: Generation) -> Chunk:
    return await anext(aiter(generation))


async def test_text_arrives_in_pieces_whose_counts_never_fall(subject: Subject) -> None:
    chunks, reading, _ = await collect(subject, await subject.ask("Write a long story about a fox."), sampling(40))
    counts = [chunk.count for chunk in chunks]
    assert len(chunks) > 5
    assert sum(bool(chunk.text) for chunk in chunks) > 5
    assert counts == sorted(counts)
    assert counts[-1] == reading.completion_tokens


@pytest.mark.parametrize("most", [1, 8])
async def test_max_tokens_is_kept(subject: Subject, most: int) -> None:
    _, reading, reason = await collect(subject, await subject.ask("Write a long story about a fox."), sampling(most))
    assert (reading.completion_tokens, reason) == (most, FinishReason.LENGTH)


async def test_an_answer_that_comes_to_its_end_stops(subject: Subject) -> None:
    prompt = await subject.ask("Say only the word yes.", "[[tokens=3]]")
    chunks, reading, reason = await collect(subject, prompt, sampling(200))
    assert reason is FinishReason.STOP
    assert 0 < reading.completion_tokens < 200
    assert chunks[-1].count == reading.completion_tokens


async def test_the_same_seed_gives_the_same_text_alone_or_beside_three_others(subject: Subject) -> None:
    prompt = await subject.ask("Tell me about the sea and its fish.", "[[delay_ms=2]]")
    others = [await subject.ask(f"Write a poem about {thing}.", "[[delay_ms=2]]") for thing in ("snow", "tea", "cats")]

    async def text(prompt: Prompt, seed: int) -> str:
        chunks, _, _ = await collect(subject, prompt, sampling(24, seed))
        return "".join(chunk.text for chunk in chunks)

    for seed in (1, 2):
        alone = await text(prompt, seed)
        beside, *_ = await asyncio.gather(text(prompt, seed), *(text(other, 99) for other in others))
        assert beside == alone
    assert await text(prompt, 3) != alone


async def test_a_reading_is_valid_at_every_moment(subject: Subject) -> None:
    prompt = await subject.ask("Describe a mountain in the morning.", "[[delay_ms=2]]")
    card = subject.engine.card
    async with subject.engine.generate(prompt, sampling(24)) as generation:
        before = generation.reading()
        assert (before.completion_tokens, before.ttft_ms, before.flop) == (0, None, 0)
        assert before.counted_by is subject.counted_by
        assert generation.finish_reason is None
        last = before
        async for chunk in generation:
            now = generation.reading()
            assert now.completion_tokens == chunk.count
            assert now.prompt_tokens > 0
            assert now.ttft_ms is not None
            assert 0 <= now.ttft_ms <= now.wall_ms
            assert now.flop == flop(card, now.prompt_tokens, now.completion_tokens)
            assert now.flop > last.flop or now.completion_tokens == last.completion_tokens
            assert now.wall_ms >= last.wall_ms
            last = now
        after = generation.reading()
    assert after.completion_tokens == 24
    assert after.prompt_tokens == prompt.count if prompt.exact else 0 < after.prompt_tokens <= prompt.count
    assert after.ids_complete is False or subject.counted_by is CountedBy.ENGINE
    assert (after.peak_memory_bytes > 0) is (subject.counted_by is CountedBy.ENGINE)


async def test_the_clock_of_a_reading_stops_with_the_answer(subject: Subject) -> None:
    prompt = await subject.ask("Name a colour.")
    async with subject.engine.generate(prompt, sampling(4)) as generation:
        assert [chunk async for chunk in generation]
        ended = generation.reading()
    assert generation.reading().wall_ms == ended.wall_ms


async def test_leaving_while_tokens_flow_frees_the_slot_within_200_ms(subject: Subject) -> None:
    took = []
    for number in range(3):
        prompt = await subject.ask(f"Write a very long story about {number} foxes.", "[[delay_ms=10]]")
        async with subject.engine.generate(prompt, sampling(1500)) as generation:
            chunk = await first_chunk(generation)
            assert await subject.busy() == 1
            began = time.monotonic()
        await subject.until_busy(0, within_s=15)
        took.append(time.monotonic() - began)
        assert generation.finish_reason is FinishReason.CANCELLED
        assert generation.reading().completion_tokens >= chunk.count > 0
        assert generation.reading().completion_tokens < 1500
    assert min(took) <= 0.2  # the best of three: a busy machine delays the engine's own word


async def test_leaving_during_a_long_prompt_frees_the_slot_within_a_second(subject: Subject) -> None:
    began = time.monotonic()
    async with subject.engine.generate(await subject.ask("The quick brown fox. " * 12, ""), sampling(1)) as generation:
        await first_chunk(generation)
    batch = time.monotonic() - began  # what the engine has begun it ends: a slow machine's batch takes longer than ours
    within, took = max(1.0, 3 * batch), list[float]()
    while len(took) < 8 and min(took, default=within + 1) > within:
        prompt = await subject.ask(f"{len(took)} " + "The quick brown fox. " * 340, "[[prefill_ms=20000]]")
        async with subject.engine.generate(prompt, sampling(8)) as generation:
            reading_it = asyncio.create_task(first_chunk(generation))
            await subject.until_busy(1, within_s=5)
            assert not reading_it.done()
            began = time.monotonic()
            reading_it.cancel()
            await asyncio.wait([reading_it])
        await subject.until_busy(0, within_s=15)
        took.append(time.monotonic() - began)
        assert generation.reading().completion_tokens == 0
        assert generation.reading().ttft_ms is None
    assert min(took) <= within


async def test_a_cancelled_reader_leaves_no_slot_behind(subject: Subject) -> None:
    prompt = await subject.ask("Write a very long story about a whale.", "[[delay_ms=10]]")
    started = asyncio.Event()

    async def read() -> None:
        async with subject.engine.generate(prompt, sampling(1500)) as generation:
            async for _ in generation:
                started.set()

    reader = asyncio.create_task(read())
    await started.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await subject.until_busy(0, within_s=15)
    assert subject.engine.status().busy == 0


async def test_eight_streams_all_make_progress_at_once(subject: Subject) -> None:
    assert subject.engine.slots == 8
    meeting = asyncio.Barrier(8)

    async def stream(number: int) -> int:
        prompt = await subject.ask(f"Write a long story about {number} dragons.", "[[delay_ms=5]]")
        async with subject.engine.generate(prompt, sampling(16)) as generation:
            chunks = aiter(generation)
            await anext(chunks)
            await meeting.wait()  # passed only when all eight have a token in the middle of their answers
            return [chunk.count async for chunk in chunks][-1]

    async with asyncio.timeout(30):
        assert await asyncio.gather(*(stream(number) for number in range(8))) == [16] * 8
    await subject.until_busy(0, within_s=15)


async def test_a_prompt_over_the_context_is_refused_as_such(subject: Subject) -> None:
    prompt = await subject.ask("word " * (subject.engine.card.context_length + 1))
    with pytest.raises(ContextLengthExceeded) as caught:
        async with subject.engine.generate(prompt, sampling(1)) as generation:
            await first_chunk(generation)
    assert caught.value.param == "messages"
    assert "word word" not in caught.value.message
    assert await subject.busy() == 0
    assert subject.engine.status().busy == 0


async def test_the_engine_says_how_busy_it_is(subject: Subject) -> None:
    assert subject.engine.status().ready
    prompt = await subject.ask("Write a very long story about rain.", "[[delay_ms=10]]")
    async with subject.engine.generate(prompt, sampling(500)) as generation:
        await first_chunk(generation)
        assert subject.engine.status().busy == 1
    assert subject.engine.status().busy == 0


async def test_closing_ends_running_answers_is_idempotent_and_final(subject: Subject) -> None:
    prompt, flowing = await subject.ask("Write a very long story about tea.", "[[delay_ms=10]]"), asyncio.Event()

    async def read() -> None:
        async with subject.engine.generate(prompt, sampling(1500)) as generation:
            async for _ in generation:
                flowing.set()

    reader = asyncio.create_task(read())
    await flowing.wait()
    await subject.engine.close()
    await subject.engine.close()
    with pytest.raises(EngineFailed):
        await asyncio.wait_for(reader, 5)
    assert not subject.engine.status().ready
    assert subject.engine.status().busy == 0
    with pytest.raises(EngineFailed):
        async with subject.engine.generate(prompt, sampling(4)) as generation:
            await first_chunk(generation)
