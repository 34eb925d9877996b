"""Earnings: who paid this node for what, by day of booking (UTC).

Running sums beside :mod:`tirami.ledger.usage`, of what this node itself was paid: by others' keys and by its own
hosted accounts. Bounded whatever strangers do: a day has ``ROWS`` pairs of payer and model; the sums of all others
stand in one row that names nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tirami.core.units import DAY_MS
from tirami.ledger.usage import KEPT_DAYS, UsageSums
from tirami.proto import Trade

ROWS = 100
OTHERS = (b"", b"")
Source = tuple[bytes, bytes]
"""Key of the payer and digest of the model."""


@dataclass(slots=True)
class Earnings:
    """``days``: day since 1970 → who paid for which model → sums; days in ascending order."""

    days: dict[int, dict[Source, UsageSums]] = field(default_factory=dict)

    def earn(self, at_ms: int, trade: Trade) -> None:
        day = at_ms // DAY_MS
        rows = self.days.setdefault(day, {})
        while len(self.days) > KEPT_DAYS:
            del self.days[next(iter(self.days))]
        source = (trade.payer, trade.model_digest)
        if source not in rows and len(rows) >= ROWS:
            source = OTHERS
        rows.setdefault(source, UsageSums()).add(trade)

    def since(self, day: int) -> Iterator[tuple[int, Source, UsageSums]]:
        """Rows of this day and later, oldest first."""
        for earned, rows in self.days.items():
            if earned >= day:
                yield from ((earned, source, sums) for source, sums in rows.items())
