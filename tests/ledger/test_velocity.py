"""The sliding minute, to the millisecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.ledger import Velocity
from tirami.ledger.velocity import MINUTE_MS


@pytest.mark.parametrize(("later", "count"), [(0, 1), (1, 1), (MINUTE_MS - 1, 1), (MINUTE_MS, 0)])
def test_the_minute_slides_to_the_millisecond(later: int, count: int) -> None:
    velocity = Velocity()
    velocity.record(5_000)
    assert velocity.count(5_000 + later) == count


@given(st.lists(st.integers(0, MINUTE_MS), max_size=200), st.integers(0, 2 * MINUTE_MS))
def test_it_is_the_recount(pauses: list[int], later: int) -> None:
    velocity, times, now = Velocity(), list[int](), 0
    for pause in pauses:
        now += pause
        velocity.record(now)
        times.append(now)
        assert velocity.count(now) == sum(now - MINUTE_MS < at <= now for at in times) == len(velocity.admitted)
    assert velocity.count(now + later) == sum(at > now + later - MINUTE_MS for at in times)
    assert velocity.count(now) == len(velocity.admitted), "reading forgets nothing"
