"""What ids spell, and what is shown of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infer.ggufs import BYTE, CONTROL, NORMAL, write_gguf
from tirami.infer import MetadataBlock, Tokenizer, resolve
from tirami.infer.gguf import Header
from tirami.infer.wording import Shown, Wording, shown


def test_ids_spell_the_bytes_of_their_tokens() -> None:
    wording = Wording([b"a", b"", b"\xe7\x8c"])
    assert wording.spell([2, 1, 0]) == b"\xe7\x8ca"
    assert wording.spell([]) == b""
    assert wording.spell([0, 3]) is wording.spell([-1]) is None


def test_a_tokenizer_that_is_not_understood_spells_nothing(tmp_path: Path) -> None:
    assert not Wording.read(Header.read(write_gguf(tmp_path / "m.gguf")))
    assert Wording().spell([0]) is None


def test_bytes_spaces_and_control_tokens_of_sentencepiece(tmp_path: Path) -> None:
    tokens = [b"<0xE7>", "▁cat".encode(), b"<s>"]
    path = write_gguf(tmp_path / "m.gguf", tokens=tokens, kinds=[BYTE, NORMAL, CONTROL], tokenizer="llama")
    assert Wording.read(Header.read(path)).spell([2, 1, 0]) == b" cat\xe7"


@pytest.mark.parametrize(
    ("spelled", "stop", "seen"),
    [
        (b"foo", (), Shown("foo", False, True)),
        (b"foo.bar", (".",), Shown("foo", True, True)),
        (b"foo.bar", ("bar", "o."), Shown("fo", True, True)),
        (b"a\x9fb", (), Shown("a\ufffdb", False, True)),
        (b"a\xe7\x8c", (), Shown("a", False, False)),
        (b"", (".",), Shown("", False, True)),
    ],
)
def test_what_is_shown(spelled: bytes, stop: tuple[str, ...], seen: Shown) -> None:
    assert shown(spelled, stop) == seen


@given(st.text())
def test_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text.encode()) == Shown(text, False, True)


@pytest.mark.model
def test_the_provider_reads_ids_as_the_payer_does() -> None:
    path = resolve("smollm2:135m").path
    wording, tokenizer = Wording.read(Header.read(path)), Tokenizer.from_block(MetadataBlock.of_file(path))
    assert len(wording) == len(tokenizer)
    assert all(wording.spell([number]) == tokenizer.decode([number]) for number in range(len(wording)))
