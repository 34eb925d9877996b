"""Vectors of models that say how theirs are made."""

import asyncio
import base64
import struct
from pathlib import Path

import pytest

from tests.infer.ggufs import named, text, u32, u64, write_gguf
from tirami.core.errors import InvalidRequest
from tirami.infer import ChildEngine
from tirami.infer import resolve as resolve_model
from tirami.infer.embedding import WINDOW, declared_pooling
from tirami.infer.gguf import Header

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
LONG = "the mountain of stone " * 40
ENDS = " of the sea"


@pytest.mark.parametrize(
    ("numbers", "pooling"),
    [({}, None), ({"pooling_type": MEAN}, "mean"), ({"pooling_type": CLS}, "cls"), ({"pooling_type": LAST}, "last")]
    + [({"pooling_type": number}, "") for number in (0, RANK, 99)],
)
def test_a_file_says_how_its_vectors_are_made(tmp_path: Path, numbers: dict[str, int], pooling: str | None) -> None:
    assert declared_pooling(Header.read(write_gguf(tmp_path / "m.gguf", numbers=numbers))) == pooling


def declaring(source: Path, target: Path, pooling: int) -> Path:
    """``source`` with a pooling type; what is put in is a multiple of the alignment long, so the weights stay right."""
    data = source.read_bytes()
    (pairs,) = struct.unpack_from("<Q", data, 16)
    put_in = text("llama.pooling_type") + u32(4) + u32(pooling) + named("general.x", "y")
    assert len(put_in) % 32 == 0
    target.write_bytes(data[:16] + u64(pairs + 2) + put_in + data[24:])
    return target


async def vectors(path: Path, *texts: str) -> list[tuple[float, ...]]:
    engine = ChildEngine(path, name="test", slots=1, context=256, threads=1)
    await engine.start()
    try:
        inputs = [await engine.prepare_text(said) for said in texts]
        async with engine.embed(inputs) as generation:
            told = [base64.b64decode(chunk.text) async for chunk in generation]
        assert max(prompt.count for prompt in inputs) > 2 * WINDOW
    finally:
        await engine.close()
    return [struct.unpack(f"<{engine.card.hidden}f", vector) for vector in told]


def alike(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.model
async def test_vectors_are_made_as_the_file_says_and_of_the_whole_input(tmp_path: Path) -> None:
    """The first state of a causal model knows the first token alone; the last one knows what came before it."""
    model = (await asyncio.to_thread(resolve_model, "smollm2:135m")).path
    first, same, other = await vectors(declaring(model, tmp_path / "cls.gguf", CLS), LONG, "the", "a mountain")
    assert alike(first, same) > 0.999 > alike(first, other)
    long, same, other = await vectors(declaring(model, tmp_path / "last.gguf", LAST), LONG, LONG, "No" + LONG)
    assert alike(long, same) > 0.9999 > alike(long, other)
    assert alike(long, first) < 0.9
    with pytest.raises(InvalidRequest) as refused:
        await vectors(declaring(model, tmp_path / "rank.gguf", RANK), LONG)
    assert refused.value.param == "model"
