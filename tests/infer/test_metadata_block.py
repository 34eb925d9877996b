"""The metadata block: whose digest it has, how it is kept, and blocks that mean harm."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.infer.blocks import block, byte_level, packed, sentence_piece
from tests.infer.ggufs import head, named, text, u32, u64, write_gguf
from tirami.core.errors import InvalidRequest, ModelLoadError, TokenizerError
from tirami.core.keys import Digest, sha256
from tirami.infer import BlockCache, MetadataBlock, Prompter, metadata_block
from tirami.infer.card import read_card
from tirami.infer.lexicon import MAX_TOKENS
from tirami.infer.rendering import RenderingProcesses

GOOD = packed(byte_level("qwen2", ["h e", "he l"], context_length=7, **{"llama.context_length": 77}))
PIECES = packed(sentence_piece(["▁", "a", "b", "ab"]))


def refused(data: bytes) -> str:
    with pytest.raises(TokenizerError) as caught:
        Prompter.from_block(MetadataBlock.of_bytes(data, sha256(data)), RenderingProcesses(0))
    return caught.value.message


def test_it_is_what_the_digest_of_the_card_covers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tokens=[b"a", b"b"])
    found = MetadataBlock.of_file(path)
    assert found.digest == read_card(path, "m", 64).tokenizer_digest == sha256(found.data)
    assert path.read_bytes().startswith(found.data)
    assert MetadataBlock.of_bytes(found.data, found.digest) == found
    assert found.context_length == 64
    assert found.template == ""


def test_a_missing_file_is_the_files_fault(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError):
        MetadataBlock.of_file(tmp_path / "none.gguf")


def test_another_block_than_asked_for_is_refused() -> None:
    asked = sha256(b"another")
    with pytest.raises(TokenizerError) as caught:
        MetadataBlock.of_bytes(GOOD, asked)
    assert caught.value.status == 503
    assert caught.value.data == {"expected": asked.hex(), "actual": sha256(GOOD).hex()}


def test_too_large_a_block_is_refused_before_it_is_hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata_block, "MAX_BLOCK_BYTES", 100)
    with pytest.raises(TokenizerError, match="more than 100 bytes"):
        MetadataBlock.of_bytes(bytes(101), sha256(bytes(101)))
    with pytest.raises(TokenizerError, match="more than 100 bytes"):
        MetadataBlock.of_file(write_gguf(tmp_path / "m.gguf", tokens=[b"a"]))


def test_too_long_a_template_is_refused() -> None:
    assert "template" in refused(packed(byte_level("qwen2", **{"tokenizer.chat_template": "x" * (1 << 19)})))


@pytest.mark.parametrize("data", [GOOD, PIECES])
def test_a_block_cut_short_is_refused_wherever_it_is_cut(data: bytes) -> None:
    for length in [*range(0, len(data), 37), len(data) - 1]:
        refused(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        head(0, 1),
        head(0, 1 << 60),
        head(1 << 60, 0),
        head(0, 1) + text("tokenizer.ggml.tokens") + u32(9) + u32(8) + u64(1 << 62),
        head(0, 1) + text("tokenizer.ggml.tokens") + u32(9) + u32(8) + u64(2) + u64(1 << 63) + u64(0),
        head(0, 1) + text("tokenizer.ggml.tokens") + u32(9) + u32(9) + u64(1) + u32(9) + u64(1),
        head(0, 2) + 2 * named("general.architecture", "llama"),
        head(0, 1) + named("tokenizer.ggml.model", "gpt2"),
        head(0, 1) + named("tokenizer.ggml.model", "bert"),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "t5"}, "cannot check"),
        ({"model": 3}, "cannot check"),
        ({"pre": "tekken"}, "cannot be checked: not bought"),
        ({"pre": ""}, "cannot be checked: not bought"),
        ({"tokens": []}, "empty"),
        ({"tokens": [1, 2]}, "empty"),
        ({"tokens": ["a", "a"]}, "twice"),
        ({"tokens": [b"\xff"]}, "UTF-8"),
        ({"tokens": ["a" * 1025]}, "1024 characters"),
        ({"token_type": [1]}, "type of every token"),
        ({"token_type": [3.0] * 300, "merges": ["nothing"]}, "no pair"),
        ({"token_type": [1] * (MAX_TOKENS + 1)}, "at most"),
        ({"merges": ["nothing"]}, "no pair"),
        ({"merges": ["q q"]}, "do not fit"),
        ({"merges": ["☃ ☃"]}, "do not fit"),
    ],
)
def test_a_tokenizer_that_contradicts_itself_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused(packed({**byte_level("qwen2", ["h e"]), **changes}))


def test_pieces_without_scores_or_bytes_are_refused() -> None:
    assert "score" in refused(packed({**sentence_piece("ab"), "scores": [0.0]}))
    assert "byte" in refused(packed({**sentence_piece("ab"), "tokens": ["a", "b"], "token_type": [1, 1]}))


def test_more_tokens_than_any_model_has_are_refused_without_reading_them() -> None:
    many = MAX_TOKENS + 1
    data = head(0, 2) + named("tokenizer.ggml.model", "gpt2")
    data += text("tokenizer.ggml.tokens") + u32(9) + u32(8) + u64(many) + bytes(8 * many)
    tracemalloc.start()
    try:
        assert str(MAX_TOKENS) in refused(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_memory_is_a_small_multiple_of_the_block() -> None:
    data = packed(sentence_piece([f"piece{number}" for number in range(50_000)]))
    tracemalloc.start()
    try:
        Prompter.from_block(MetadataBlock.of_bytes(data, sha256(data)), RenderingProcesses(0))
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data)
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([GOOD, PIECES]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4),
)
def test_a_block_changed_anywhere_is_refused_or_works(data: bytes, changes: list[tuple[float, bytes]]) -> None:
    changed = bytearray(data)
    for where, what in changes:
        at = int(where * len(changed))
        changed[at : at + len(what)] = what
    try:
        tokenizer = Prompter.from_block(
            MetadataBlock.of_bytes(bytes(changed), sha256(bytes(changed))), RenderingProcesses(0)
        ).tokenizer
    except TokenizerError:
        return
    for special in (False, True):
        tokenizer.decode(tokenizer.encode("Hello ab\n猫 <s>", special))
    tokenizer.count("Hello ab\n猫 <s>")


def test_half_a_character_is_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest):
        Prompter.from_block(block(byte_level("qwen2")), RenderingProcesses(0)).prepare_text("\ud800")


def test_the_cache_keeps_sound_blocks_and_forgets_the_oldest(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "blocks", kept=2)
    blocks = [block(byte_level("qwen2", **{"general.name": name})) for name in "abc"]
    assert cache.load(blocks[0].digest) is None
    for number, one in enumerate(blocks):
        cache.store(one)
        os.utime(tmp_path / "blocks" / f"{one.digest.hex()}.block", (number, number))
    cache.store(blocks[2])
    assert cache.load(blocks[0].digest) is None
    assert [cache.load(one.digest) for one in blocks[1:]] == blocks[1:]
    (tmp_path / "blocks" / f"{blocks[1].digest.hex()}.block").write_bytes(blocks[2].data)
    assert cache.load(blocks[1].digest) is None
    assert len(list((tmp_path / "blocks").iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = BlockCache(tmp_path / "file")
    cache.store(block(byte_level("qwen2")))
    assert cache.load(Digest(bytes(32))) is None
