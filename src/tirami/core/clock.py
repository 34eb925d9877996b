"""Time is passed in: wall time for records, monotonic time for waiting."""

import time
from typing import Final, Protocol

from tirami.core.units import UnixMs

APART_MS: Final = 3_600_000
"""How far the clocks of two nodes may differ and they still believe each other (PROTOCOL B15; a gate only)."""


def apart(ahead_ms: int) -> str:
    """How a clock stands to another, in words: "3 minutes ahead of"."""
    minutes = round(abs(ahead_ms) / 60_000)
    return f"{minutes} minute{'' if minutes == 1 else 's'} {'ahead of' if ahead_ms > 0 else 'behind'}"


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
