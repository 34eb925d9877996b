"""Time is passed in: wall time for records, monotonic time for waiting."""

import time
from typing import Protocol

from tirami.core.units import UnixMs


class Clock(Protocol):
    def now_ms(self) -> UnixMs:
        """Wall time, Unix milliseconds; may jump."""

    def monotonic(self) -> float:
        """Seconds of a clock that never runs backwards."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> UnixMs:
        return UnixMs(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()
