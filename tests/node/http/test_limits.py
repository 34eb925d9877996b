"""Rate limits: by caller, filled up by time, and only the most recent callers remembered."""

import pytest

from tirami.core.errors import RateLimited
from tirami.node.http import limits as limits_module
from tirami.node.http.limits import CallerLimits
from tirami.testing import ManualClock


def test_a_bucket_empties_and_fills_up_with_time() -> None:
    clock = ManualClock()
    limits = CallerLimits(2, clock)
    for _ in range(2):
        limits.take(b"a")
    with pytest.raises(RateLimited):
        limits.take(b"a")
    limits.take(b"b")
    clock.advance(0.5)
    limits.take(b"a")
    with pytest.raises(RateLimited):
        limits.take(b"a")


def test_the_least_recent_caller_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MAX_CALLERS", 2)
    limits = CallerLimits(1, ManualClock())
    limits.take(b"a")
    limits.take(b"b")
    with pytest.raises(RateLimited):
        limits.take(b"a")  # and so b is the least recent
    limits.take(b"c")
    assert set(limits._buckets) == {b"a", b"c"}
    with pytest.raises(RateLimited):
        limits.take(b"a")
    limits.take(b"b")
