"""A clock that stands until it is moved."""

from tirami.core.units import UnixMs


class ManualClock:
    """Wall time and monotonic time under the test's control; wall time may be set backwards."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.wall_ms = now_ms
        self._monotonic = 0.0

    def now_ms(self) -> UnixMs:
        return UnixMs(self.wall_ms)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Both times move on."""
        self.wall_ms += round(seconds * 1000)
        self._monotonic += seconds
