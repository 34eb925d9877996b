"""Which tokens are not whole characters, and how a merged piece is cut into them."""

from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from tests.infer.ggufs import BYTE, CONTROL, NORMAL, write_gguf
from tirami.infer import resolve
from tirami.infer.gguf import Header
from tirami.infer.vocabulary import Fragments

CAT, FOX = "猫".encode(), "🦊".encode()


def read(path: Path, tokens: list[bytes], kinds: list[int], tokenizer: str) -> Fragments:
    return Fragments.read(Header.read(write_gguf(path, tokens=tokens, kinds=kinds, tokenizer=tokenizer)))


def test_one_way_to_cut_is_found() -> None:
    fragments = Fragments({CAT[:1]: 1, CAT[1:]: 2, FOX[:2]: 3, FOX[2:]: 4})
    assert fragments.splits(CAT, 2, 2) == [(1, 2)]
    assert fragments.splits(FOX, 4, 2) == [(3, 4)]
    assert fragments.splits(CAT, 1, 2) == []
    assert fragments.splits(CAT, 2, 3) == []
    assert fragments.splits(b"", 2, 1) == []


def test_a_token_may_end_one_character_and_begin_the_next() -> None:
    fragments = Fragments({CAT[:1]: 1, CAT[1:] + FOX[:1]: 2, FOX[1:]: 3})
    assert fragments.splits(CAT + FOX, 3, 3) == [(1, 2, 3)]


def test_no_cut_falls_between_whole_characters() -> None:
    fragments = Fragments({CAT[:1]: 1, CAT[1:]: 2})
    assert fragments.splits(CAT + CAT, 2, 4) == []


def test_of_several_ways_two_are_shown() -> None:
    fragments = Fragments({FOX[:1]: 1, FOX[1:2]: 2, FOX[:2]: 3, FOX[2:3]: 4, FOX[3:]: 5, FOX[1:3]: 6})
    assert len(fragments.splits(FOX, 5, 3)) == 2
    assert fragments.splits(FOX, 5, 4) == [(1, 2, 4, 5)]


@given(st.text(min_size=1, max_size=3), st.integers(1, 12))
def test_every_split_reads_as_the_text(text: str, count: int) -> None:
    alphabet = {bytes([byte]): byte for byte in range(0x80, 0x100)}
    data = text.encode()
    for split in Fragments(alphabet).splits(data, data[-1], count):
        assert bytes(split) == data
        assert len(split) == count


def test_byte_level_letters_are_bytes(tmp_path: Path) -> None:
    tokens = ["ç", "Į«", "Ġhello", "ĉ", "猫"]
    fragments = read(tmp_path / "m.gguf", [token.encode() for token in tokens], [NORMAL] * 5, "gpt2")
    assert fragments.splits(b"\xe7\x8c\xab", 1, 2) == [(0, 1)]
    assert len(fragments) == 2


def test_byte_tokens_of_sentencepiece_are_fragments(tmp_path: Path) -> None:
    tokens = [b"<0xE7>", b"<0x8C>", b"<0xAB>", b"<0x41>", "▁cat".encode(), b"<s>"]
    fragments = read(tmp_path / "m.gguf", tokens, [BYTE] * 4 + [NORMAL, CONTROL], "llama")
    assert fragments.splits(CAT, 2, 3) == [(0, 1, 2)]
    assert len(fragments) == 3


@pytest.mark.parametrize("token", [b"<0xZZ>", b"<0x>", b"", b"\xff\xfe\xfd\xfc\xfb\xfa"])
@pytest.mark.parametrize("kind", [NORMAL, BYTE])
@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
def test_a_malformed_token_is_no_fragment_and_no_crash(tmp_path: Path, token: bytes, kind: int, tokenizer: str) -> None:
    fragments = read(tmp_path / "m.gguf", [token, b"<0xE7>"], [kind, BYTE], tokenizer)
    assert fragments.splits(b"\xe7", 1, 1) == [(1,)]


def test_a_file_without_tokenizer_has_no_fragments(tmp_path: Path) -> None:
    fragments = Fragments.read(Header.read(write_gguf(tmp_path / "m.gguf")))
    assert not fragments
    assert fragments.splits(CAT, 1, 2) == []


@pytest.mark.model
def test_every_fragment_of_the_real_model_is_found_under_its_id() -> None:
    path = resolve("smollm2:135m").path
    fragments = Fragments.read(Header.read(path))
    field = GGUFReader(path).fields["tokenizer.ggml.tokens"]
    assert 100 < len(fragments) < 2000
    lone = {number: bytes(field.parts[field.data[number]]).decode() for number in range(len(field.data))}
    whole = next(number for number, letters in lone.items() if letters == "ç")
    assert fragments.splits(b"\xe7", whole, 1) == [(whole,)]
