"""Velocity: how many spends were admitted in the last minute, to the millisecond. Denials are never in it.

A spend is what a request buys, not whom it asks: it counts once, at its first hold, however many providers are tried.
The holds that follow say that they are further tries (``HoldOpened.again``); this node sets that within one request,
after a try that ended without a charge, and no caller can. Nothing gives a spend back, be it cancelled or failed, so an
agent in a loop is stopped although it pays nothing.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

MINUTE_MS = 60_000


@dataclass(slots=True)
class Velocity:
    """Times of the spends admitted in the minute before the newest, ascending, Unix milliseconds."""

    admitted: list[int] = field(default_factory=list)

    def record(self, at_ms: int) -> None:
        """Forgets what no later minute can hold: journal time never falls."""
        del self.admitted[: bisect_right(self.admitted, at_ms - MINUTE_MS)]
        self.admitted.append(at_ms)

    def count(self, now_ms: int) -> int:
        """Spends admitted in ``(now - 1 minute, now]``."""
        return len(self.admitted) - bisect_right(self.admitted, now_ms - MINUTE_MS)
