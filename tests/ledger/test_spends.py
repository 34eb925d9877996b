"""The sliding hour, to the millisecond, against a recount."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import Trm, UnixMs
from tirami.ledger import PayerBooks, SpendWindow
from tirami.ledger.spends import HOUR_MS


@pytest.mark.parametrize(("later", "spent"), [(0, 7), (1, 7), (HOUR_MS - 1, 7), (HOUR_MS, 0), (HOUR_MS + 1, 0)])
def test_the_hour_slides_to_the_millisecond(later: int, spent: int) -> None:
    books = PayerBooks()
    books.admit(UnixMs(1_000), Trm(7))
    assert books.spent_in_hour(1_000 + later) == spent
    assert books.lifetime == 7


@given(st.lists(st.tuples(st.integers(0, HOUR_MS // 8), st.integers(0, 100), st.integers(0, 100)), max_size=300))
def test_it_is_the_recount(rows: list[tuple[int, int, int]]) -> None:
    """Spends at any pace, each corrected some spends later, also when it has left the hour."""
    window, now = SpendWindow(), 0
    numbers, times, amounts = list[int](), list[int](), list[int]()
    for place, (pause, amount, _) in enumerate(rows):
        now += pause
        numbers.append(window.add(UnixMs(now), Trm(amount)))
        times.append(now)
        amounts.append(amount)
        if place >= 12:
            amounts[place - 12] = min(rows[place - 12][2], amounts[place - 12])
            window.correct(numbers[place - 12], Trm(amounts[place - 12]))
        recent = [(at, spent) for at, spent in zip(times, amounts, strict=True) if at > now - HOUR_MS]
        assert (window.within(now), len(window)) == (sum(spent for _, spent in recent), len(recent))
    assert numbers == list(range(len(rows)))


def test_what_has_left_the_hour_is_dropped() -> None:
    window = SpendWindow()
    for hour in range(5):
        for at in range(1_000):
            window.add(UnixMs(hour * HOUR_MS + at), Trm(1))
    assert len(window) == window.total == 1_000
    assert len(window._times) < 1_100
