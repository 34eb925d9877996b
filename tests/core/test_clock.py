"""The machine's clocks."""

import time

from tirami.core.clock import Clock, SystemClock


def test_the_system_clock_is_a_clock() -> None:
    clock: Clock = SystemClock()
    before = time.time_ns() // 1_000_000
    assert before <= clock.now_ms() <= time.time_ns() // 1_000_000
    assert clock.monotonic() <= clock.monotonic()
