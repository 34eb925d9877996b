"""Ids the server withheld: proven by the vocabulary, else confirmed by the tokenizer, else not claimed."""

from typing import cast

import pytest

from tirami.infer.ids import IdRecovery
from tirami.infer.llama import LlamaClient
from tirami.infer.vocabulary import Fragments

CAT = "猫".encode()
ONE_WAY = {CAT[:1]: 1, CAT[1:]: 2}
TWO_WAYS = {CAT[:1]: 1, CAT[1:2]: 2, CAT[2:]: 3, CAT[:2]: 4, CAT[1:]: 5}


class Tokenizer:
    """Always cuts in the same way, and remembers what it was asked."""

    def __init__(self, *cut: int) -> None:
        self._cut = cut
        self.asked: list[str] = []

    async def tokenize(self, text: str, *, whole_prompt: bool) -> tuple[int, ...]:
        assert not whole_prompt
        self.asked.append(text)
        return self._cut


def recovery(tokenizer: Tokenizer, fragments: dict[bytes, int]) -> IdRecovery:
    return IdRecovery(cast(LlamaClient, tokenizer), Fragments(fragments))


async def test_a_single_split_is_proof_without_asking() -> None:
    tokenizer = Tokenizer()
    assert await recovery(tokenizer, ONE_WAY).recover("猫", 2, 2) == (1, 2)
    assert tokenizer.asked == []


async def test_no_split_is_not_known() -> None:
    tokenizer = Tokenizer(7, 2)
    assert await recovery(tokenizer, ONE_WAY).recover("犬", 2, 2) is None
    assert tokenizer.asked == []


@pytest.mark.parametrize(
    ("cut", "found"), [((4, 3), (4, 3)), ((4, 9), None), ((1, 2, 3), None), ((3,), None), ((), None)]
)
async def test_without_vocabulary_the_tokenizer_must_agree_in_count_and_last_id(
    cut: tuple[int, ...], found: tuple[int, ...] | None
) -> None:
    tokenizer = Tokenizer(*cut)
    assert await recovery(tokenizer, {}).recover("猫", 3, 2) == found
    assert tokenizer.asked == ["猫"]


async def test_among_several_splits_the_tokenizer_decides() -> None:
    several = {**TWO_WAYS, "🦊".encode()[:1]: 6, "🦊".encode()[1:2]: 7, "🦊".encode()[:2]: 8}
    several |= {"🦊".encode()[2:3]: 9, "🦊".encode()[3:]: 10, "🦊".encode()[1:3]: 11}
    tokenizer = Tokenizer(8, 9, 10)
    assert await recovery(tokenizer, several).recover("🦊", 10, 3) == (8, 9, 10)
    assert tokenizer.asked == ["🦊"]
