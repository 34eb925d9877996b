"""How large a model is, by the bytes before its weights: what a liar says about it is found."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.infer.ggufs import head, named, write_gguf, write_header
from tirami.core.errors import TokenizerError
from tirami.core.keys import sha256
from tirami.infer import MetadataBlock, ModelSize
from tirami.infer.card import read_card
from tirami.infer.gguf import MAX_OF_BLOCK


@dataclass(frozen=True)
class Said:
    layers: int
    hidden: int
    parameters: int
    active_parameters: int


def size_of(path: Path) -> ModelSize:
    block = MetadataBlock.of_file(path)
    return ModelSize.of(MetadataBlock.of_bytes(block.data, block.digest).header)


def header(path: Path, shapes: dict[str, tuple[int, ...]], **numbers: int) -> Path:
    numbers = {"block_count": 2, "embedding_length": 32, "context_length": 64, **numbers}
    return write_header(path, architecture="llama", numbers=numbers, shapes=shapes)


def test_a_card_read_from_the_whole_file_agrees_with_its_block(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tokens=[b"a", b"b"])
    assert size_of(path).contradicted(read_card(path, "m", 64)) is None


@pytest.mark.parametrize("field", ["layers", "hidden", "parameters", "active_parameters"])
def test_what_is_said_otherwise_is_named(tmp_path: Path, field: str) -> None:
    size = size_of(header(tmp_path / "m.gguf", {"token_embd.weight": (32, 8), "blk.0.w": (32, 32)}))
    said = Said(2, 32, 32 * 8 + 32 * 32, 32 * 8 + 32 * 32)
    assert size.contradicted(said) is None
    for other in (0, getattr(said, field) + 1, getattr(said, field) * 100):
        assert size.contradicted(replace(said, **{field: other})) == field


def test_a_second_matrix_may_be_the_embedding_again_where_it_has_its_shape(tmp_path: Path) -> None:
    tied = size_of(header(tmp_path / "t.gguf", {"token_embd.weight": (32, 8), "output.weight": (32, 8)}))
    assert tied.weights == {(256, 256), (512, 512)}
    apart = size_of(header(tmp_path / "a.gguf", {"token_embd.weight": (32, 8), "output.weight": (32, 9)}))
    assert apart.weights == {(544, 544)}


def test_of_experts_a_token_touches_some(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": (32, 8), "blk.0.ffn_up_exps.weight": (32, 4, 8)}
    size = size_of(header(tmp_path / "e.gguf", shapes, expert_count=8, expert_used_count=2))
    assert size.weights == {(256 + 1024, 256 + 256)}


def test_a_block_that_lists_tensors_without_end_is_refused() -> None:
    data = head(MAX_OF_BLOCK + 1, 1) + named("general.architecture", "llama")
    with pytest.raises(TokenizerError, match="absurdly many"):
        MetadataBlock.of_bytes(data, sha256(data))
