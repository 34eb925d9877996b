"""What one peer may ask of this node: a budget for each kind of message, for bytes, and for streams.

A peer that says more than its budget on the control stream is read no faster than that: what it sends meanwhile waits
on its own side, held there by QUIC's flow control, and costs nothing here. Of streams there are so many at a time; one
more is reset, and who keeps opening more is no peer. Budgets are wide for the honest: a book that differs is brought by
reconciliation, on a stream of its own.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from tirami.core.clock import Clock
from tirami.core.errors import WireError
from tirami.proto import (
    Ask,
    BlockWanted,
    FraudFound,
    HeadSeen,
    KillAnswered,
    KillOrdered,
    ObservationSeen,
    Ping,
    Pong,
    Reconcile,
    Records,
    RotationSeen,
    SignalSeen,
)

BYTES: Final = (2 * 1024 * 1024.0, 8 * 1024 * 1024.0)
"""Of the control stream: a second, and at once."""
RATES: Final[Mapping[int, tuple[float, float]]] = {
    Ping.TYPE: (4, 16),
    Pong.TYPE: (4, 16),
    Records.TYPE: (100, 400),
    HeadSeen.TYPE: (4, 16),
    FraudFound.TYPE: (2, 64),
    SignalSeen.TYPE: (400, 2_000),
    KillOrdered.TYPE: (4, 64),
    KillAnswered.TYPE: (20, 256),
    RotationSeen.TYPE: (4, 64),
    ObservationSeen.TYPE: (100, 1_000),
}
"""Messages a second and at once, by type."""
OTHERS: Final = (20.0, 100.0)
"""Of every other type, those included that nobody here knows."""
STREAMS: Final = 10
"""Streams of one peer at a time; each may leave 1.25 MB unread here."""
OPENINGS: Final[Mapping[int, tuple[float, float]]] = {
    Ask.TYPE: (100, 400),
    Reconcile.TYPE: (1, 16),
    BlockWanted.TYPE: (1, 64),
}
"""Streams a second and at once, by the type of the first message on them."""
OTHER_OPENINGS: Final = (1.0, 16.0)
"""Of every other type each."""
REFUSED: Final = (1.0, 10.0)
"""Streams beyond that, a second and at once, after which the peer is one no more."""


class Bucket:
    """So many a second, and so many at once."""

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now_s

    def take(self, amount: float, now_s: float) -> float:
        """Seconds until this much may be taken; it counts as taken already.

        No more is owed than may be taken at once: those who take and leave do not lock everybody out for long.
        """
        self._refill(now_s)
        self._left = max(-self._burst, self._left - amount)
        return max(0.0, -self._left / self._rate)

    def allows(self, amount: float, now_s: float) -> bool:
        """Whether this much may be taken now; it is taken then."""
        self._refill(now_s)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def _refill(self, now_s: float) -> None:
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at) * self._rate)
        self._at = now_s


class Budget:
    """Of one peer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[int, Bucket] = {}
        self._bytes = Bucket(*BYTES, clock.monotonic())
        self._refused = Bucket(*REFUSED, clock.monotonic())
        self._openings: dict[int, Bucket] = {}
        self._open = 0

    async def pace(self, kind: int, size: int) -> None:
        """Wait until a message of this type and length may be read; others have their turn in any case."""
        now = self._clock.monotonic()
        known = kind if kind in RATES else 0  # all others share one
        bucket = self._kinds.get(known)
        if bucket is None:
            bucket = self._kinds[known] = Bucket(*RATES.get(known, OTHERS), now)
        await asyncio.sleep(max(bucket.take(1, now), self._bytes.take(size, now)))

    def enter(self) -> bool:
        """Whether one more stream may be open. Raises ``WireError`` for who keeps trying."""
        if self._open < STREAMS:
            self._open += 1
            return True
        if not self._refused.allows(1, self._clock.monotonic()):
            raise WireError("the peer opens streams without end")
        return False

    def opens(self, kind: int) -> bool:
        """Whether one more stream may begin with a message of this type, which somebody here answers."""
        now = self._clock.monotonic()
        bucket = self._openings.get(kind)
        if bucket is None:
            bucket = self._openings[kind] = Bucket(*OPENINGS.get(kind, OTHER_OPENINGS), now)
        return bucket.allows(1, now)

    def leave(self) -> None:
        """One of them has ended."""
        self._open -= 1
