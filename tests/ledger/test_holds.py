"""Payers' own books: the sliding hour to the millisecond, ceilings and what replaces them."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import Trm, UnixMs
from tirami.ledger import HoldCaptured, HoldOpened, HoldReleased, Holds, PayerBooks
from tirami.ledger.holds import HOUR_MS, Spend

PAYER = b"p" * 32


def opened(number: int, ceiling: int) -> HoldOpened:
    return HoldOpened(number.to_bytes(16), PAYER, 0, 0, number, ceiling, "inference", 10**15, "req", b"", b"", b"", b"")


def captured(number: int, amount: int) -> HoldCaptured:
    return HoldCaptured(number.to_bytes(16), b"", amount)


@pytest.mark.parametrize(("later", "spent"), [(0, 7), (1, 7), (HOUR_MS - 1, 7), (HOUR_MS, 0), (HOUR_MS + 1, 0)])
def test_the_hour_slides_to_the_millisecond(later: int, spent: int) -> None:
    books = PayerBooks()
    books.admit(Spend(UnixMs(1_000), Trm(7)))
    assert books.spent_in_hour(1_000 + later) == spent
    assert books.lifetime == 7


@given(st.lists(st.tuples(st.integers(0, HOUR_MS), st.integers(0, 100), st.integers(0, 100)), max_size=60))
def test_the_running_hour_equals_the_recount(rows: list[tuple[int, int, int]]) -> None:
    """Spends at any pace, some corrected later, also when they have left the hour."""
    books, spends, now = PayerBooks(), list[Spend](), 0
    pending: deque[tuple[Spend, int]] = deque()
    for pause, amount, final in rows:
        now += pause
        spend = Spend(UnixMs(now), Trm(amount))
        books.admit(spend)
        spends.append(spend)
        pending.append((spend, min(final, amount)))
        if len(pending) > 3:
            earlier, less = pending.popleft()
            books.correct(earlier, Trm(less))
        assert books.spent_in_hour(now) == sum(s.amount for s in spends if s.at_ms > now - HOUR_MS)
        assert books.lifetime == sum(s.amount for s in spends)


def test_a_session_counts_at_its_ceiling_and_then_at_its_price() -> None:
    holds = Holds()
    holds.apply(opened(1, 100), UnixMs(0))
    holds.apply(opened(2, 50), UnixMs(10))
    books = holds.books(PAYER)
    assert (books.held, books.settled, books.hourly, books.lifetime) == (150, 0, 150, 150)
    assert [(entry.number, entry.ceiling) for entry in books.open_list()] == [(1, 100), (2, 50)]
    holds.apply(captured(1, 30), UnixMs(20))
    assert (books.held, books.settled, books.hourly, books.lifetime) == (50, 30, 80, 80)
    holds.apply(HoldReleased((2).to_bytes(16), "cancelled"), UnixMs(30))
    assert (books.held, books.settled, books.hourly, books.lifetime) == (0, 30, 30, 30)
    assert not holds.open


def test_a_capture_counts_in_the_hour_of_its_hold() -> None:
    holds = Holds()
    holds.apply(opened(1, 100), UnixMs(0))
    books = holds.books(PAYER)
    assert books.spent_in_hour(HOUR_MS) == 0
    holds.apply(captured(1, 60), UnixMs(HOUR_MS))
    assert (books.spent_in_hour(HOUR_MS), books.lifetime) == (0, 60)


def test_numbers_rise_and_start_at_the_floor() -> None:
    holds = Holds()
    holds.start(1_000, 3)
    assert (holds.next_number(PAYER), holds.incarnation) == (1_000, 3)
    holds.apply(opened(1_000, 1), UnixMs(0))
    holds.debited(PAYER, 1_001, Trm(5), UnixMs(1))
    assert holds.next_number(PAYER) == 1_002
    holds.start(500, 3)
    assert holds.next_number(b"q" * 32) == 1_000, "a floor never sinks"
    assert (holds.books(PAYER).settled, holds.books(PAYER).hourly) == (5, 6)
