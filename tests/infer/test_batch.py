"""How much a child computes at once, for any number of slots."""

import asyncio
from pathlib import Path

import pytest

from tests.infer.test_embedding import LAST, declaring
from tirami.core.errors import ModelLoadError
from tirami.infer import ChildEngine, Sampling, resolve
from tirami.infer.batch import BATCH, MOST_SLOTS, batch_tokens


@pytest.mark.parametrize("pooling", [None, "", "cls"])
def test_every_slot_has_as_many_tokens_of_a_batch(pooling: str | None) -> None:
    for slots in range(1, MOST_SLOTS + 1):
        for context in (64, 100, 1024):
            batch = batch_tokens(pooling, slots=slots, context=context)
            least = context if pooling else BATCH
            assert batch % slots == 0 and least <= batch < least + slots


async def answered(engine: ChildEngine) -> int:
    prompt = await engine.prepare_text("The sea is")
    async with engine.generate(prompt, Sampling(max_tokens=2, seed=1)) as generation:
        assert [chunk async for chunk in generation]
    return generation.reading().completion_tokens


async def used(engine: ChildEngine) -> None:
    """Every slot answers, and vectors of more than a batch are made."""
    await engine.start()
    try:
        assert await asyncio.gather(*(answered(engine) for _ in range(engine.slots))) == [2] * engine.slots
        async with engine.embed([await engine.prepare_text("the sea " * 50)]) as generation:
            assert [chunk async for chunk in generation]
    finally:
        await engine.close()


@pytest.mark.model
@pytest.mark.parametrize(("slots", "context"), [(3, 1024), (5, 1000), (7, 128), (12, 257), (16, 512), (65, 128)])
async def test_any_number_of_slots_loads_and_answers(slots: int, context: int) -> None:
    model = await asyncio.to_thread(resolve, "smollm2:135m")
    await used(ChildEngine(model.path, name="test", slots=slots, context=context, threads=1))


@pytest.mark.model
async def test_a_model_made_for_embeddings_loads_with_any_number_of_slots(tmp_path: Path) -> None:
    model = (await asyncio.to_thread(resolve, "smollm2:135m")).path
    path = declaring(model, tmp_path / "last.gguf", LAST)
    await used(ChildEngine(path, name="test", slots=3, context=256, threads=1))


@pytest.mark.model
async def test_more_slots_than_there_can_be_are_refused_with_the_reason() -> None:
    model = await asyncio.to_thread(resolve, "smollm2:135m")
    with pytest.raises(ModelLoadError, match=f"{MOST_SLOTS}"):
        await ChildEngine(model.path, name="test", slots=MOST_SLOTS + 1, context=64, threads=1).start()
