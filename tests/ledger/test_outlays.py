"""What the agent spent today: a fold over its holds, on the day each was opened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import DAY_MS, Trm, UnixMs
from tirami.ledger import AGENT, Holds, Outlays
from tirami.ledger.entries import Hold, HoldCaptured, HoldOpened, HoldOwed, HoldReleased, HoldVouched

NOON = DAY_MS * 20_000 + DAY_MS // 2
PAYER = bytes(32)


class Book:
    """Holds and outlays, told the same."""

    def __init__(self) -> None:
        self.holds, self.outlays = Holds(), Outlays()
        self.number = 0

    def tell(self, hold: Hold, at_ms: int) -> None:
        session = self.holds.open.get(hold.id)
        self.holds.apply(hold, UnixMs(at_ms))
        self.outlays.apply(hold, session, at_ms)

    def open(self, ceiling: int, at_ms: int = NOON, task: str = "t", purpose: str = AGENT) -> bytes:
        self.number += 1
        name = self.number.to_bytes(16)
        empty = (b"", b"", b"", b"")
        self.tell(HoldOpened(name, PAYER, 0, 0, self.number, ceiling, purpose, 10**15, task, *empty), at_ms)
        return name

    def sums(self, now_ms: int = NOON) -> tuple[int, int]:
        return self.outlays.paid(now_ms), self.outlays.held(now_ms)


@pytest.mark.parametrize(
    ("end", "paid"),
    [
        (lambda name: HoldCaptured(name, bytes(32), 7), 7),
        (lambda name: HoldOwed(name, 4), 4),
        (lambda name: HoldReleased(name, "cancelled"), 0),
    ],
)
def test_a_session_counts_at_its_ceiling_until_it_ends(end: object, paid: int) -> None:
    book = Book()
    name = book.open(10)
    assert (book.sums(), book.outlays.of("t", NOON)) == ((0, 10), 10)
    book.tell(HoldVouched(name, 3, b"", b"", 0), NOON)
    assert book.sums() == (0, 10)
    book.tell(end(name), NOON)  # type: ignore[operator]
    assert (book.sums(), book.outlays.of("t", NOON)) == ((paid, 0), paid)


def test_what_is_not_the_agents_is_not_counted() -> None:
    book = Book()
    name = book.open(10, purpose="inference")
    book.tell(HoldCaptured(name, bytes(32), 7), NOON)
    assert book.sums() == (0, 0)


def test_a_session_counts_on_the_day_it_was_opened() -> None:
    book = Book()
    name = book.open(10)
    tomorrow = NOON + DAY_MS
    assert book.sums(tomorrow) == (0, 0)
    other = book.open(5, tomorrow, "u")
    book.tell(HoldCaptured(name, bytes(32), 9), tomorrow)
    assert book.sums(tomorrow) == (0, 5), "yesterday's limit was for that"
    book.tell(HoldCaptured(other, bytes(32), 2), tomorrow)
    assert (book.sums(tomorrow), book.outlays.of("t", tomorrow)) == ((2, 0), 0)


def test_a_task_that_was_tried_twice_costs_what_both_cost() -> None:
    book = Book()
    book.tell(HoldReleased(book.open(10), "cancelled"), NOON)
    book.tell(HoldCaptured(book.open(10), bytes(32), 6), NOON)
    assert book.outlays.of("t", NOON) == 6


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.booleans()), max_size=20))
def test_sums_are_those_of_the_sessions(sessions: list[tuple[int, int, bool]]) -> None:
    book, paid, held = Book(), 0, 0
    for number, (ceiling, cost, ends) in enumerate(sessions):
        name = book.open(ceiling, task=str(number))
        if ends:
            book.tell(HoldCaptured(name, bytes(32), min(cost, ceiling)), NOON)
            paid += min(cost, ceiling)
        else:
            held += ceiling
    assert book.sums() == (paid, held)
    assert sum(book.outlays.of(str(number), NOON) for number in range(len(sessions))) == Trm(paid + held)
