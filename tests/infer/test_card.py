"""What a card says about files whose makers are known."""

import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
from gguf import GGMLQuantizationType

from tests.infer.ggufs import matrix, write_gguf
from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import CountedBy, read_card, resolve
from tirami.infer.gguf import Header

Q8 = GGMLQuantizationType.Q8_0
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def parameters(path: Path, tensors: dict[str, Any], **options: Any) -> tuple[int, int]:
    card = read_card(write_gguf(path, tensors=tensors, **options), "m", 64)
    return card.parameters, card.active_parameters


@pytest.mark.model
def test_the_real_model_has_the_published_size() -> None:
    model = resolve("smollm2:135m")
    card = read_card(model.path, model.name, 2048)
    assert (card.parameters, card.active_parameters) == (134_515_008, 134_515_008)
    assert (card.layers, card.hidden, card.context_length, card.quantization) == (30, 576, 2048, "Q4_1")
    assert (card.name, card.digest, card.size_bytes) == ("smollm2:135m", model.digest, 98_362_432)
    assert card.counted_by is CountedBy.ENGINE
    header = Header.read(model.path)
    with model.path.open("rb") as file:
        assert card.tokenizer_digest == hashlib.sha256(file.read(header.data_offset)).digest()


def test_a_tied_embedding_counts_once_however_it_is_stored(path: Path) -> None:
    embedding, body = matrix(16, 64), matrix(4, 32, 1)
    weights = {EMBEDDING: embedding, "blk.0.ffn_up.weight": body}
    once = 16 * 64 + 4 * 32
    assert parameters(path, weights) == (once, once)
    assert parameters(path, {**weights, OUTPUT: embedding}) == (once, once)
    assert parameters(path, {**weights, OUTPUT: embedding}, quantized={OUTPUT: Q8}) == (once, once)


def test_an_output_of_its_own_counts_too(path: Path) -> None:
    assert parameters(path, {EMBEDDING: matrix(16, 64), OUTPUT: matrix(16, 64, 1)})[0] == 2 * 16 * 64
    assert parameters(path, {EMBEDDING: matrix(16, 64), OUTPUT: matrix(8, 64)})[0] == 24 * 64


def test_of_experts_only_the_used_ones_are_active(path: Path) -> None:
    experts = numpy.stack([matrix(4, 32, seed) for seed in range(8)])
    tensors = {
        EMBEDDING: matrix(16, 32),
        "blk.0.ffn_up_exps.weight": experts,
        "blk.0.ffn_gate_inp.weight": matrix(8, 32),
    }
    numbers = {"expert_count": 8, "expert_used_count": 2}
    fixed = 16 * 32 + 8 * 32
    assert parameters(path, tensors, numbers=numbers) == (fixed + 8 * 128, fixed + 2 * 128)
    assert parameters(path, tensors, numbers={"expert_count": 8, "expert_used_count": 99})[1] == fixed + 8 * 128


def test_the_context_is_what_was_asked_but_not_more_than_the_model_knows(path: Path) -> None:
    write_gguf(path, numbers={"context_length": 64})
    assert read_card(path, "m", 32).context_length == 32
    assert read_card(path, "m", 4096).context_length == 64
    assert read_card(path, "m", 32).context_limit == "this node allows 32 a request (infer.context)"
    assert read_card(path, "m", 4096).context_limit == "the model's context is 64"
    write_gguf(path, numbers={"context_length": 0})
    assert read_card(path, "m", 4096).context_length == 4096
    assert read_card(path, "m", 4096).context_limit == "the model's context is 4096"


@pytest.mark.parametrize(("kind", "name"), [(3, "Q4_1"), (15, "Q4_K_M"), (32, "BF16"), (999, "unknown")])
def test_the_quantization_is_named(path: Path, kind: int, name: str) -> None:
    assert read_card(write_gguf(path, numbers={"general.file_type": kind}), "m", 64).quantization == name


def test_an_unnamed_quantization_is_unknown(path: Path) -> None:
    assert read_card(write_gguf(path), "m", 64).quantization == "unknown"


def test_the_tokenizer_digest_ignores_the_weights(tmp_path: Path) -> None:
    one = read_card(write_gguf(tmp_path / "one.gguf", tensors={EMBEDDING: matrix(8, 32, 1)}), "m", 64)
    two = read_card(write_gguf(tmp_path / "two.gguf", tensors={EMBEDDING: matrix(8, 32, 2)}), "m", 64)
    three = read_card(write_gguf(tmp_path / "three.gguf", numbers={"block_count": 3}), "m", 64)
    assert one.digest != two.digest
    assert one.tokenizer_digest == two.tokenizer_digest != three.tokenizer_digest


@pytest.mark.parametrize("numbers", [{"block_count": 0}, {"embedding_length": 0}])
def test_what_describes_no_language_model_is_refused(path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(ModelLoadError, match="does not describe a language model"):
        read_card(write_gguf(path, numbers=numbers), "m", 64)


def test_another_digest_is_refused_naming_both(path: Path) -> None:
    actual = Digest(hashlib.sha256(write_gguf(path).read_bytes()).digest())
    assert read_card(path, "m", 64, expected=actual).digest == actual
    with pytest.raises(ModelDigestMismatch) as caught:
        read_card(path, "m", 64, expected=Digest(b"\x01" * 32))
    assert caught.value.data == {"expected": "01" * 32, "actual": actual.hex()}


def test_absurdly_wide_rows_are_not_loaded(path: Path) -> None:
    wide = numpy.zeros((2, 1 << 19), dtype=numpy.float32)
    write_gguf(path, tensors={EMBEDDING: wide, OUTPUT: wide})
    read_card(path, "m", 64)
    tracemalloc.start()
    try:
        read_card(path, "m", 64)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
