"""Tokenizers of small vocabularies: what they cut, what tokens say, and how answers are counted."""

import time
from itertools import cycle

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.infer.blocks import (
    USER_DEFINED,
    alphabet,
    block,
    byte_level,
    learned_merges,
    repository_lines,
    sentence_piece,
)
from tests.infer.ggufs import CONTROL
from tests.infer.mixed_text import SCRAPS
from tirami.core.errors import TokenizerError
from tirami.infer import tokenizer as module
from tirami.infer.counting import Count
from tirami.infer.spelling import PRETOKENIZERS
from tirami.infer.tokenizer import LONGEST_UNCUT, Tokenizer

WORDS = ["▁", "▁a", "ab", "▁ab", "b", "a", "c", "b▁c", "▁c", "bb"]
QWEN = Tokenizer.from_block(block(byte_level("qwen2", learned_merges(), {"<think>": USER_DEFINED, "<end>": CONTROL})))
SMOL = Tokenizer.from_block(block(byte_level("smollm", learned_merges())))
LLAMA = Tokenizer.from_block(block(sentence_piece(WORDS, {"<think>": USER_DEFINED, "  ": USER_DEFINED})))
ALL = pytest.mark.parametrize("tokenizer", [QWEN, SMOL, LLAMA], ids=["qwen", "smol", "llama"])
text = st.lists(st.sampled_from([*SCRAPS, "a", "b", " a", "ab", "b c", " ", "\n"]), max_size=40).map("".join)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""As Qwen2.5's own tokenizer.json has it."""


def words(pre: str, sentence: str) -> list[str]:
    """What the pre-tokenizer makes of ``sentence``: all that stands together is merged, only its cuts are left."""
    tokenizer = Tokenizer.from_block(block(byte_level(pre, merging_everything(sentence))))
    return [tokenizer.decode([number]).decode() for number in tokenizer.encode(sentence, special=False)]


def merging_everything(sentence: str) -> list[str]:
    """A merge for every two neighbouring stretches of ``sentence``."""
    letters = [alphabet()[byte] for byte in sentence.encode()]
    return list(
        dict.fromkeys(
            f"{''.join(letters[start:middle])} {''.join(letters[middle:end])}"
            for length in range(2, len(letters) + 1)
            for start in range(len(letters) - length + 1)
            for end in [start + length]
            for middle in range(start + 1, end)
        )
    )


@pytest.mark.parametrize(
    "sentence", ["I'll see, 123 x", "We'RE  here\n\n 日本", "a\t\tb\r\nc!!\n", "  x   ", "é½Ⅷ٣", "x == y;\n\n\n    z"]
)
def test_qwen_is_cut_as_its_makers_cut_it(sentence: str) -> None:
    cut = words("qwen2", sentence)
    assert "".join(cut) == sentence
    assert cut == regex.findall(QWEN2, sentence)


def test_three_digits_are_one_word_for_llama_and_one_for_qwen_and_all_for_gpt2() -> None:
    assert words("llama-bpe", "a 12345") == ["a", " ", "123", "45"]
    assert words("smollm", "a 123") == ["a", " ", "1", "2", "3"]
    assert words("gpt-2", "a 12345") == ["a", " 12345"]


def test_llama_takes_a_word_that_is_a_token_whatever_the_merges_say() -> None:
    pairs = byte_level("llama-bpe", ["a b", "b c"])
    pairs["tokens"].append("abc")
    pairs["token_type"].append(1)
    assert len(Tokenizer.from_block(block(pairs)).encode("abc", special=False)) == 1
    assert len(Tokenizer.from_block(block({**pairs, "pre": "qwen2"})).encode("abc", special=False)) == 2


def test_pieces_with_the_highest_score_are_joined_first() -> None:
    ids = LLAMA.encode("ab", special=False)
    assert [LLAMA.text_of(number) for number in ids] == ["▁ab"]
    ids = LLAMA.encode("abc cé b c", special=False)
    assert [LLAMA.text_of(number) for number in ids] == ["▁ab", "c", "▁c", "<0xC3>", "<0xA9>", "▁", "b▁c"]


def test_a_space_is_put_before_a_text_and_after_a_mark_where_the_model_wants_it() -> None:
    assert LLAMA.decode(LLAMA.encode("ab<think>ab", special=False)) == b" ab<think> ab"
    bare = Tokenizer.from_block(block(sentence_piece(WORDS, add_space_prefix=False)))
    assert bare.decode(bare.encode("ab", special=False)) == b"ab"


def test_a_whole_prompt_is_framed_as_the_model_wants_and_its_marks_are_read() -> None:
    assert LLAMA.encode("</s>", special=True) == (1, 2)
    assert len(LLAMA.encode("</s>", special=False)) > 2
    pairs = byte_level("qwen2", (), {"<s>": CONTROL}, bos_token_id=256, eos_token_id=65, add_eos_token=True)
    framed = Tokenizer.from_block(block(pairs))
    assert framed.encode("B<s>", special=True) == (66, 256, 65)
    assert (framed.bos, framed.eos, framed.adds_bos, framed.adds_eos) == ("<s>", "A", False, True)
    assert Tokenizer.from_block(block({**pairs, "add_bos_token": True})).encode("B", special=True) == (256, 66, 65)
    assert Tokenizer.from_block(block({**pairs, "pre": "llama-bpe"})).encode("B", special=True) == (256, 66, 65)


def test_control_tokens_say_nothing_and_added_ones_what_they_are() -> None:
    think, end = len(QWEN) - 2, len(QWEN) - 1
    assert QWEN.decode([think, end, 0xC3, 0xA9]) == b"<think>" + "é".encode()
    assert QWEN.text_of(end) == "<end>"
    assert QWEN.encode("<think><end>", special=True) == (think, end)
    assert QWEN.encode("<think>", special=False) == (think,)
    assert end not in QWEN.encode("<end>", special=False)


def test_texts_that_llama_cpp_takes_for_control_tokens_say_nothing_whatever_their_type() -> None:
    tokenizer = Tokenizer.from_block(block(byte_level("qwen2", (), {"<|im_end|>": 1, "<|message|>": CONTROL})))
    assert tokenizer.decode([256, 257]) == b"<|message|>"


@pytest.mark.parametrize("number", [-1, 1 << 40])
def test_an_id_that_is_none_is_named(number: int) -> None:
    with pytest.raises(TokenizerError, match=str(number)):
        QWEN.decode([number])
    with pytest.raises(TokenizerError, match=str(number)):
        QWEN.text_of(number)


@ALL
@given(text)
def test_what_was_encoded_decodes_to_the_same_bytes(tokenizer: Tokenizer, text: str) -> None:
    space = b" " if tokenizer is LLAMA and text and not text.startswith(("<think>", "  ")) else b""
    decoded = tokenizer.decode(tokenizer.encode(text, special=False))
    assert decoded.replace(b"<think> ", b"<think>").replace(b" ", b"") == (space + text.encode()).replace(b" ", b"")
    if tokenizer is not LLAMA:
        assert decoded == text.encode()


@ALL
@settings(deadline=1000)
@given(text, st.lists(st.integers(1, 9), min_size=1), st.sampled_from([7, 16, LONGEST_UNCUT]))
@example("a" * 60 + " b\nc d", [7], 16)
@example("a\nb" * 20 + "c" * 20 + "\nx y" + "  " * 20, [3], 16)
def test_counting_a_growing_answer_equals_counting_it_whole(
    tokenizer: Tokenizer, text: str, sizes: list[int], longest: int
) -> None:
    count, data, start = Count(tokenizer), text.encode(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LONGEST_UNCUT", longest)
        for size in cycle(sizes):
            if start >= len(data):
                return
            counted = count.feed(data[start : start + size])
            start += size
            whole = data[:start].decode(errors="ignore")
            assert counted == tokenizer.count(whole) + len(data[:start]) - len(whole.encode())


@pytest.mark.parametrize("pre", sorted(PRETOKENIZERS))
def test_counting_equals_the_number_of_ids_for_every_known_pretokenizer(pre: str) -> None:
    tokenizer = Tokenizer.from_block(block(byte_level(pre, learned_merges(), {"\n\n": USER_DEFINED})))
    answer = "\n".join(repository_lines()[:150]) + "".join(SCRAPS) + " ".join(SCRAPS) + "\n".join(SCRAPS)
    assert tokenizer.count(answer) == len(tokenizer.encode(answer, special=False))
    count = Count(tokenizer)
    for start in range(0, len(answer), 5):
        counted = count.feed(answer[start : start + 5].encode())
        if start % 500 == 0:
            assert counted == len(tokenizer.encode(answer[: start + 5], special=False))


@given(text)
def test_the_count_of_pieces_equals_their_ids_without_the_added_space(text: str) -> None:
    bare = Tokenizer.from_block(block(sentence_piece(WORDS, {"  ": USER_DEFINED}, add_space_prefix=False)))
    assert bare.count(text) == len(bare.encode(text, special=False))


@given(text)
def test_added_tokens_that_cross_places_where_one_cuts_are_minded(text: str) -> None:
    tokenizer = Tokenizer.from_block(block(byte_level("qwen2", (), {"b c": USER_DEFINED, "\na": USER_DEFINED})))
    assert tokenizer.count(text) == len(tokenizer.encode(text, special=False))


@ALL
@given(st.integers(1, 3 * LONGEST_UNCUT), st.sampled_from(["a", "ab", "é", "12", "\n", "self", "  "]))
def test_a_text_without_places_to_cut_costs_at_most_a_token_a_cut_more(tokenizer: Tokenizer, n: int, unit: str) -> None:
    whole = unit * n
    more = tokenizer.count(whole) - tokenizer.plain(whole)
    assert abs(more) <= 2 * (len(whole) // LONGEST_UNCUT)


def test_bytes_that_are_no_text_count_one_each() -> None:
    count = Count(QWEN)
    assert count.feed(b"\xff\xfe") == 2
    assert count.feed("猫".encode()[:2]) == 4
    assert count.feed("猫".encode()[2:]) == 2 + len(QWEN.encode("猫", special=False))


@ALL
def test_the_cost_of_a_count_is_linear_even_for_one_endless_word(tokenizer: Tokenizer) -> None:
    def seconds(length: int) -> float:
        count, began = Count(tokenizer), time.perf_counter()
        for _ in range(length // 50):
            count.feed(b"ab" * 25)
        return time.perf_counter() - began

    seconds(4000)
    assert seconds(80_000) < 8 * seconds(20_000) + 0.05
