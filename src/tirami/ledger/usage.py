"""Usage: what this node's accounts spent and earned, by day of booking (UTC).

Running sums, added to with every booked trade, so that reading them never looks at the trades again. Kept for the
accounts of this node only, ``KEPT_DAYS`` days each: bounded whatever strangers do.
"""

from dataclasses import dataclass, field

from tirami.core.units import DAY_MS
from tirami.proto import Trade

KEPT_DAYS = 400


@dataclass(slots=True)
class UsageSums:
    """Sums over trades: requests, tokens, TRM, FLOP."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    trm: int = 0
    flop: int = 0

    def add(self, trade: Trade) -> None:
        self.requests += 1
        self.prompt_tokens += trade.prompt_tokens
        self.completion_tokens += trade.completion_tokens
        self.trm += trade.amount
        self.flop += trade.flop


@dataclass(slots=True)
class DayUsage:
    """One account on one day: what it paid for, and what it was paid for."""

    spent: UsageSums = field(default_factory=UsageSums)
    earned: UsageSums = field(default_factory=UsageSums)


@dataclass(slots=True)
class Usage:
    """``days``: account → day since 1970 → sums; days in ascending order."""

    days: dict[bytes, dict[int, DayUsage]] = field(default_factory=dict)

    def spend(self, account: bytes, at_ms: int, trade: Trade) -> None:
        self._day(account, at_ms).spent.add(trade)

    def earn(self, account: bytes, at_ms: int, trade: Trade) -> None:
        self._day(account, at_ms).earned.add(trade)

    def of(self, account: bytes, since_day: int) -> list[tuple[int, DayUsage]]:
        """Days with use, oldest first."""
        return [(day, usage) for day, usage in self.days.get(account, {}).items() if day >= since_day]

    def _day(self, account: bytes, at_ms: int) -> DayUsage:
        days, day = self.days.setdefault(account, {}), at_ms // DAY_MS
        if day not in days:
            days[day] = DayUsage()
            while len(days) > KEPT_DAYS:
                del days[next(iter(days))]
        return days[day]
