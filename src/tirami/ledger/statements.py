"""Settlement statements: the applied trades of a window, walked in log order, a few at a time.

A window is over the time of booking, which never runs backwards, so it is a range of leaves: consecutive windows miss
nothing and repeat nothing. Only a bounded number of records is in memory at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from tirami.core.keys import PublicKey, Signer
from tirami.core.units import UnixMs
from tirami.ledger.ledger import Ledger
from tirami.ledger.records import StoredRecord
from tirami.ledger.state import State
from tirami.proto import Signed, Statement, StatementTrade, Trade, signed, statement_trade
from tirami.verify import NOBODY, Tally

CHUNK = 64
"""Leaves looked at in one step of the event loop."""


@dataclass(frozen=True, slots=True)
class StatementWindow:
    """``since_ms`` ≤ booked < ``until_ms``: leaves ``first`` … ``end`` − 1."""

    since_ms: UnixMs
    until_ms: UnixMs
    first: int
    end: int

    @classmethod
    def of(cls, state: State, since_ms: UnixMs, until_ms: UnixMs, cursor: int = 0) -> "StatementWindow":
        """The durable leaves of a window, from leaf ``cursor`` on."""
        first = max(cursor, state.first_booked_at(since_ms))
        return cls(since_ms, until_ms, first, max(first, state.first_booked_at(until_ms)))


class StatementRun:
    """One statement in the making: iterate over groups of rows, then :meth:`sign`.

    Args:
        account: whose trades; ``None`` for everybody's.
        limit: most trades; a statement that reaches it ends at the leaf after its last one.
    """

    def __init__(self, ledger: Ledger, window: StatementWindow, account: PublicKey | None, limit: int) -> None:
        self._ledger = ledger
        self._account = account
        self._limit = limit
        self.window = window
        self.end = window.first
        """The leaf after the last one looked at."""
        self.tally = Tally()

    def __iter__(self) -> Iterator[list[StatementTrade]]:
        """Groups of rows, some empty; whoever iterates may do something else between two."""
        while self.end < self.window.end and self.tally.trades < self._limit:
            yield self._group(min(self.end + CHUNK, self.window.end))

    @property
    def next_cursor(self) -> int | None:
        """Where the next statement of this window begins; ``None`` when it is complete."""
        return self.end if self.end < self.window.end else None

    def sign(self, node: Signer) -> Signed:
        """The statement over what was iterated."""
        ledger, started = self._ledger, self._ledger.state.settings.started
        assert started is not None
        statement = Statement(
            network=ledger.network.id,
            network_hash=ledger.network.hash,
            log_id=started.log_id,
            node=node.public_key,
            account=self._account or NOBODY,
            since_ms=self.window.since_ms,
            until_ms=self.window.until_ms,
            first=self.window.first,
            end=self.end,
            trades=self.tally.trades,
            volume=self.tally.volume,
            root=self.tally.root.root(),
            rows_hash=self.tally.rows.digest(),
            at_ms=ledger.now(),
        )
        return signed(statement, node)

    def _group(self, stop: int) -> list[StatementTrade]:
        state, start = self._ledger.state, self.end
        rows: list[StatementTrade] = []
        newest_first = takewhile(lambda stored: stored.leaf_index >= start, state.newest_first(self._account, stop))
        for stored in reversed(list(newest_first)):
            if not isinstance(stored.body, Trade) or not state.book.is_applied(stored.record_id):
                continue
            if self.tally.trades == self._limit:
                self.end = stored.leaf_index
                return rows
            rows.append(_row(stored))
            self.tally.add(rows[-1])
        self.end = stop
        return rows


def _row(stored: StoredRecord) -> StatementTrade:
    return statement_trade(stored.leaf_index, stored.at_ms, stored.envelope.body, *stored.envelope.signatures)
