"""Marks in a text: found leftmost and longest, and nothing is lost between them."""

from hypothesis import given
from hypothesis import strategies as st

from tirami.infer.marks import Marks

MARKS = {"<a>": 1, "<ab>": 2, "\n": 3, "\n\n": 4, "]": 5, "^-\\": 6, "猫": 7, "<ab>c": 8}


def split(text: str, marks: dict[str, int] = MARKS) -> list[str | int]:
    return list(Marks(marks).split(text))


def test_the_longest_mark_at_the_leftmost_place_is_taken() -> None:
    assert split("x<ab>y") == ["x", 2, "y"]
    assert split("<ab>c<a><a") == [8, 1, "<a"]
    assert split("\n\n\n") == [4, 3]
    assert split("a]^-\\猫") == ["a", 5, 6, 7]


def test_a_text_without_marks_is_one_piece_and_an_empty_one_none() -> None:
    assert split("plain <") == ["plain <"]
    assert split("") == []
    assert split("x", {}) == ["x"]


@given(st.text(alphabet="<ab>c\n]^-\\猫 "))
def test_nothing_is_lost_and_no_mark_is_left_over(text: str) -> None:
    texts = {number: mark for mark, number in MARKS.items()}
    pieces = split(text)
    assert "".join(texts[piece] if isinstance(piece, int) else piece for piece in pieces) == text
    for piece in pieces:
        assert isinstance(piece, int) or (piece and not any(mark in piece for mark in MARKS))
