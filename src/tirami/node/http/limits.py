"""Rate limits per caller: token buckets in a bounded map."""

from collections import OrderedDict
from dataclasses import dataclass

from tirami.core.clock import Clock
from tirami.core.errors import RateLimited

MAX_CALLERS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class CallerLimits:
    """``rate`` requests a second and as many at once, for each caller apart; the least recent are forgotten."""

    def __init__(self, rate: int, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    def take(self, caller: bytes) -> None:
        """Raises ``RateLimited``."""
        now = self._clock.monotonic()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self._rate), now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self._rate, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise RateLimited(f"more than {self._rate} requests a second", retry_after=1)
        bucket.tokens -= 1
