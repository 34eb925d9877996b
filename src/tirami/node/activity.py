"""What was traded lately: the newest trades of the last 24 hours, kept up to date from the book whenever it is asked.

Reading costs what is new since the last time, and never more than ``AT_ONCE`` records; nothing is written.
"""

from collections import Counter, deque
from itertools import islice
from statistics import median
from typing import NamedTuple

from tirami.core.keys import PublicKey
from tirami.core.units import DAY_MS, FLOP_PER_TRM, Trm, UnixMs
from tirami.ledger import LOCAL, Ledger, State
from tirami.proto import Trade

MOST = 10_000
"""Trades remembered; on a busier day the oldest of it are left out."""
AT_ONCE = 1_000
"""Records read in one go, the newest: after a start, or when nobody has asked for long, older ones are left out."""


class _Seen(NamedTuple):
    at_ms: UnixMs
    amount: Trm
    trm_per_gflop: float | None
    payer: bytes
    provider: bytes
    local: bool


class Activity:
    """The last 24 hours of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state: State | None = None
        self._next_leaf = 0
        self._trades: deque[_Seen] = deque(maxlen=MOST)

    def price_median(self) -> float | None:
        """Median over the trades of TRM × 10⁹ ÷ FLOP (GEN-04); ``None`` without a trade."""
        ratios = [seen.trm_per_gflop for seen in self._read() if seen.trm_per_gflop is not None]
        return median(ratios) if ratios else None

    def parties(self, most: int) -> list[PublicKey]:
        """The keys named by the most network trades, most first."""
        counts: Counter[bytes] = Counter()
        for seen in self._read():
            if not seen.local:
                counts.update((seen.payer, seen.provider))
        return [PublicKey(key) for key, _ in counts.most_common(most)]

    def _read(self) -> deque[_Seen]:
        """Take in what was booked since the last time, drop what is older than a day."""
        state, oldest = self._ledger.state, self._ledger.now() - DAY_MS
        if state is not self._state:  # read anew after a failed write: what was seen may be gone
            self._state, self._next_leaf = state, 0
            self._trades.clear()
        new: list[_Seen] = []
        for stored in islice(state.newest_first(None, None), min(AT_ONCE, state.log.size - self._next_leaf)):
            if stored.at_ms <= oldest:
                break
            if isinstance(stored.body, Trade):
                new.append(_seen(stored.at_ms, stored.body))
        self._next_leaf = state.log.size
        self._trades.extend(reversed(new))
        while self._trades and self._trades[0].at_ms <= oldest:
            self._trades.popleft()
        return self._trades


def _seen(at_ms: UnixMs, trade: Trade) -> _Seen:
    ratio = trade.amount * FLOP_PER_TRM / trade.flop if trade.flop else None
    return _Seen(at_ms, Trm(trade.amount), ratio, trade.payer, trade.provider, trade.scope == LOCAL)
