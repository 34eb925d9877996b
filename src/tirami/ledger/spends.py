"""The sliding hour: what one account's admitted spends of the last hour come to, to the millisecond.

Two packed numbers a spend, so that a snapshot copies an hour of them at once while the node goes on.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from tirami.core.units import Trm, UnixMs
from tirami.ledger.columns import U64, Table

HOUR_MS = 3_600_000
_SLACK = 64
"""Rows that have left the hour are dropped when they are as many as this and half of all."""


@dataclass(slots=True)
class SpendWindow:
    """Spends in order of admission; each has a running number and falls from its ceiling to what was captured."""

    total: Trm = Trm(0)
    """Σ of those inside the hour when it was last asked for or added to."""
    _times: Table = field(default_factory=lambda: Table(U64))
    _amounts: Table = field(default_factory=lambda: Table(U64))
    _dropped: int = 0  # rows before the first that is kept
    _gone: int = 0  # kept rows that have left the hour

    def __len__(self) -> int:
        """Spends inside the hour."""
        return len(self._times) - self._gone

    def add(self, at_ms: UnixMs, amount: Trm) -> int:
        """Admit a spend; returns its number. Journal time never falls."""
        self.within(at_ms)
        self._times.append(at_ms)
        self._amounts.append(amount)
        self.total = Trm(self.total + amount)
        return self._dropped + len(self._times) - 1

    def correct(self, number: int, amount: Trm) -> None:
        """This spend turned out as ``amount``; nothing changes when it has left the hour."""
        row = number - self._dropped
        if row >= self._gone:
            self.total = Trm(self.total - self._amounts[row] + amount)
            self._amounts[row] = amount

    def within(self, now_ms: int) -> Trm:
        """Σ of the spends admitted in ``(now - 1 hour, now]``. Amortised O(1)."""
        end = bisect_right(self._times, now_ms - HOUR_MS, lo=self._gone)
        if end > self._gone:
            self.total = Trm(self.total - sum(self._amounts[self._gone : end]))
            self._gone = end
            if end >= _SLACK and 2 * end >= len(self._times):
                del self._times[:end], self._amounts[:end]
                self._dropped, self._gone = self._dropped + end, 0
        return self.total
