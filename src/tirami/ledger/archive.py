"""Entries of the journal by position, for whoever asks later: nothing that is on disk is kept in memory for it."""

import sqlite3
from pathlib import Path
from threading import Lock

from tirami.core.errors import JournalCorrupt, StorageUnavailable
from tirami.ledger.schema import open_reader
from tirami.ledger.segments import Row, Segment

KEPT = 4
"""Segments at hand, so that a page of neighbours reads each of them once."""


class Archive:
    """Reads durable entries on a connection of its own, opened when first asked; from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._kept: dict[int, Segment] = {}
        self._lock = Lock()

    def row(self, seq: int) -> Row:
        """Raises ``StorageUnavailable`` when the disk cannot be read, ``JournalCorrupt`` when it has no such entry."""
        try:
            with self._lock:
                return self._row(seq)
        except sqlite3.Error as error:
            raise StorageUnavailable(f"the journal cannot be read: {error}", retry_after=5) from error
        except ValueError as error:
            raise JournalCorrupt(f"journal entry {seq} is not where it was: {error}", entry=seq) from error

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _row(self, seq: int) -> Row:
        for segment in self._kept.values():
            if segment.first <= seq <= segment.last:
                return segment.row(seq)
        if self._database is None:
            self._database = open_reader(self._path)
        select = "SELECT seq, kind, at_ms, body, chain FROM entries WHERE seq = ?"
        for row in self._database.execute(select, (seq,)).fetchall():
            return row  # type: ignore[no-any-return]
        select = "SELECT first, last, chain, seal, data FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1"
        for columns in self._database.execute(select, (seq,)).fetchall():
            segment = Segment(*columns)
            if segment.first <= seq <= segment.last:
                self._keep(segment)
                return segment.row(seq)
        raise ValueError("no such entry")

    def _keep(self, segment: Segment) -> None:
        if len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[segment.first] = segment
