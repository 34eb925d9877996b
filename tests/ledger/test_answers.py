"""Answers under idempotency keys: found for a day, few enough, and never for another request."""

import pytest

from tirami.core.errors import IdempotencyKeyReused
from tirami.core.units import UnixMs
from tirami.ledger import Asked
from tirami.ledger.answers import KEPT_MS, MOST, Answers


def asked(number: int, body: bytes = b"b") -> Asked:
    return Asked(number.to_bytes(32), body)


def test_found_for_a_day() -> None:
    answers = Answers()
    answers.apply(asked(1).answered(b"r"), UnixMs(5))
    assert answers.find(asked(1), UnixMs(KEPT_MS + 4)) == b"r"
    assert answers.find(asked(1), UnixMs(KEPT_MS + 5)) is None
    assert answers.find(asked(2), UnixMs(5)) is None
    with pytest.raises(IdempotencyKeyReused):
        answers.find(asked(1, b"other"), UnixMs(6))


def test_a_key_may_be_used_anew_when_it_is_forgotten() -> None:
    answers = Answers()
    answers.apply(asked(1).answered(b"r"), UnixMs(0))
    answers.apply(asked(1, b"other").answered(b"s"), UnixMs(KEPT_MS))
    assert answers.find(asked(1, b"other"), UnixMs(KEPT_MS)) == b"s"


def test_bounded_in_number_and_age() -> None:
    answers = Answers()
    for number in range(MOST + 5):
        answers.apply(asked(number).answered(b"r"), UnixMs(number))
    assert len(answers._kept) == MOST
    assert answers.find(asked(4), UnixMs(MOST)) is None
    assert answers.find(asked(5), UnixMs(MOST)) == b"r"
    answers.apply(asked(MOST + 5).answered(b"r"), UnixMs(KEPT_MS + MOST + 4))
    assert len(answers._kept) == 1
