"""One pass over the whole journal: every entry re-hashed, in order, those after a position decoded."""

import sqlite3
from collections.abc import Callable, Iterator

from tirami.core.errors import JournalCorrupt
from tirami.ledger.entries import Entry, EntryKind, decode_content
from tirami.ledger.segments import GENESIS, Row, Segment, chain_hash
from tirami.ledger.tip import Tip

_SEGMENTS = "SELECT first, last, chain, seal, data FROM segments WHERE first > ? ORDER BY first"
_ENTRIES = "SELECT seq, kind, at_ms, body, chain FROM entries ORDER BY seq"
_KINDS = frozenset(map(int, EntryKind))


class Replay:
    """Where the pass has come to; at its end, where the journal stands.

    Args:
        differs: called with the position of the tip when the entry there is another one.
    """

    def __init__(self, database: sqlite3.Connection, key: bytes, tip: Tip, differs: Callable[[int], None]) -> None:
        self._database = database
        self._key = key
        self._tip = tip
        self._differs = differs
        self.seq = 0
        self.chain = GENESIS
        self.at_ms = 0
        self.sealed_chain = GENESIS
        """Chain hash of the last entry that is in a segment."""
        self.unsealed = 0
        """Bytes in entries that are in none."""

    def skip(self, after: int) -> None:
        """Begin behind the last segment that ends at or before ``after``, as if it had been checked."""
        newest = "SELECT last, chain FROM segments WHERE last <= ? ORDER BY first DESC LIMIT 1"
        for seq, chain in self._database.execute(newest, (after,)).fetchall():
            self.seq, self.chain = seq, chain

    def entries(self, after: int) -> Iterator[Entry]:
        """Entries after that position. Raises ``JournalCorrupt``, naming the entry."""
        try:
            for columns in self._database.execute(_SEGMENTS, (self.seq,)):
                yield from self._of_segment(Segment(*columns), after)
            self.sealed_chain = self.chain
            for row in self._database.execute(_ENTRIES):
                self._check(row)
                if self.seq > after:
                    yield _decoded(row)
        except (sqlite3.Error, OverflowError) as error:
            raise JournalCorrupt(f"journal entry {self.seq + 1} cannot be read: {error}", entry=self.seq + 1) from error

    def _of_segment(self, segment: Segment, after: int) -> Iterator[Entry]:
        if not self._fits(segment):
            raise _mismatch(self.seq + 1)
        if not segment.sealed(self.chain, self._key):
            raise _mismatch(segment.broken(self.chain, self._key))
        if segment.first <= self._tip.seq <= segment.last and segment.row(self._tip.seq)[4] != self._tip.chain:
            self._differs(self._tip.seq)
        for seq in range(max(segment.first, after + 1), segment.last + 1):
            yield _decoded(segment.row(seq))
        self.seq, self.chain, self.at_ms = segment.last, segment.chain, segment.row(segment.last)[2]

    def _fits(self, segment: Segment) -> bool:
        numbers = segment.first, segment.last
        data = segment.chain, segment.seal, segment.data
        return (
            all(isinstance(number, int) for number in numbers)
            and all(isinstance(value, bytes) for value in data)
            and segment.first == self.seq + 1 <= segment.last < segment.first + len(segment.data)
        )

    def _check(self, row: Row) -> None:
        """Whether the next row is the next entry of the chain."""
        number, kind, at_ms, body, chain = row
        seq = self.seq + 1
        if number != seq or not isinstance(kind, int) or not isinstance(at_ms, int):
            raise _mismatch(seq)
        if not isinstance(body, bytes) or not isinstance(chain, bytes) or kind not in _KINDS or at_ms < 0:
            raise _mismatch(seq)
        if chain_hash(self._key, self.chain, seq, kind, at_ms, body) != chain:
            raise _mismatch(seq)
        if seq == self._tip.seq and chain != self._tip.chain:
            self._differs(seq)
        self.seq, self.chain, self.at_ms = seq, chain, at_ms
        self.unsealed += len(body)


def _mismatch(seq: int) -> JournalCorrupt:
    return JournalCorrupt(f"journal entry {seq} does not match its hash under this node's key", entry=seq)


def _decoded(row: Row) -> Entry:
    seq, kind, at_ms, body, _ = row
    try:
        return Entry(seq, at_ms, decode_content(kind, body))
    except ValueError as error:
        raise JournalCorrupt(f"journal entry {seq} cannot be decoded: {error}", entry=seq) from error
