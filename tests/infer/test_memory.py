"""What a child is said to take, against what it takes."""

from pathlib import Path

import pytest

from tests.infer.ggufs import write_header
from tirami.infer import ChildEngine, Header, Sampling, memory_bytes, resolve
from tirami.infer.memory import BASE_BYTES, kv_bytes_per_token


def header(path: Path, **numbers: int) -> Header:
    named = {key.replace("__", "."): value for key, value in numbers.items()}
    return Header.read(write_header(path, architecture="x", numbers=named, shapes={"token_embd.weight": (8, 8)}))


def test_without_shared_heads_every_head_has_its_keys(tmp_path: Path) -> None:
    plain = header(tmp_path / "a", block_count=2, embedding_length=64, attention__head_count=4)
    assert kv_bytes_per_token(plain) == 2 * 4 * (16 + 16) * 2


def test_a_file_that_tells_nothing_of_heads_is_counted_as_one_wide_head(tmp_path: Path) -> None:
    assert kv_bytes_per_token(header(tmp_path / "a", block_count=2, embedding_length=64)) == 2 * (64 + 64) * 2


def test_the_width_of_a_key_may_be_its_own(tmp_path: Path) -> None:
    own = header(
        tmp_path / "a", block_count=2, embedding_length=64, attention__head_count=4, attention__head_count_kv=1,
        attention__key_length=32, attention__value_length=8,
    )  # fmt: skip
    assert kv_bytes_per_token(own) == 2 * 1 * (32 + 8) * 2
    assert memory_bytes(own, 1000, slots=3, context=10) == 1000 + 30 * 160 + BASE_BYTES


def test_a_model_made_for_embeddings_computes_a_whole_input_at_once(tmp_path: Path) -> None:
    estimates = [
        memory_bytes(header(tmp_path / "a", vocab_size=100, **declared), 0, slots=1, context=512)
        for declared in ({}, {"pooling_type": 3})
    ]
    assert estimates[1] - estimates[0] == (512 - 64) * 100 * 4


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2:135m", "gemma3:270m"])
@pytest.mark.parametrize(("slots", "context"), [(1, 512), (8, 2048)])
async def test_a_child_takes_what_was_estimated_and_not_much_less(name: str, slots: int, context: int) -> None:
    model = resolve(name)
    estimate = memory_bytes(Header.read(model.path), model.path.stat().st_size, slots=slots, context=context)
    engine = ChildEngine(model.path, name=name, slots=slots, context=context)
    assert engine.memory_bytes() == 0
    await engine.start()
    try:
        async with engine.generate(await engine.prepare([{"role": "user", "content": "Hi"}]), Sampling(8, 1)) as answer:
            assert [chunk async for chunk in answer]
        measured = engine.memory_bytes()
    finally:
        await engine.close()
    print(f"{name} {slots} x {context}: estimated {estimate >> 20} MiB, measured {measured >> 20} MiB")
    assert 0.6 * estimate < measured <= estimate
