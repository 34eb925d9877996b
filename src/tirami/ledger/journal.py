"""The append-only, hash-chained journal in SQLite (WAL, ``synchronous=FULL``, one writer, group commit).

``append`` assigns positions at once and returns a future that resolves when the entries are on disk; everything
that arrives while one group is being written goes out with the next. Each row carries
``chain = HMAC-SHA256(key, previous chain ‖ seq ‖ kind ‖ at_ms ‖ body)`` under a key derived from the node's; every
start re-hashes all of them. Old rows are moved into sealed segments, between groups, which is what makes that quick.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import structlog

from tirami.core.errors import JournalCorrupt, JournalRollback, StorageUnavailable, TiramiError
from tirami.ledger.archive import Archive
from tirami.ledger.entries import Content, Entry, decode_content, encode_content, kind_of
from tirami.ledger.replay import Replay
from tirami.ledger.schema import SCHEMA_VERSION, check_magic, open_database
from tirami.ledger.segments import GENESIS, SEGMENT_BYTES, Row, Segment, chain_hash
from tirami.ledger.tip import Tip, TipFile

__all__ = ["GENESIS", "SCHEMA_VERSION", "Journal", "chain_hash"]
_log = structlog.get_logger()
_ROWS_A_STATEMENT = 100
"""Each step of a statement hands the interpreter lock over and back; one step for many rows keeps streams flowing."""
_COPY_PAGES, _COPY_PAUSE_S = 256, 0.002
"""A copy goes on by a megabyte at a time and lets waiting groups write in between."""


@dataclass(slots=True)
class _Group:
    rows: list[Row]
    written: list["asyncio.Future[None]"]


class Journal:
    """Owner of the database file, the tip file and the one writer task.

    Raises:
        JournalCorrupt: an entry does not hash to its chain, is missing or cannot be read; names the entry.
        JournalRollback: the journal ends before its tip (an older copy), or has none, and ``accept_rollback`` is off.
        JournalTooNew: written by a later schema.
        MigrationFailed: of an earlier schema, and could not be brought to this one.
        DataDirLocked: another process has it open.
    """

    def __init__(
        self, path: Path, key: bytes, database: sqlite3.Connection, tip: TipFile, accept_rollback: bool
    ) -> None:
        self._path = path
        self._key = key
        self._database = database
        self._tip = tip
        self._accept_rollback = accept_rollback
        self._database_turn = threading.Lock()
        """Held for a transaction, and for each step of a copy."""
        self._archive = Archive(path)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._group = _Group([], [])
        self._in_flight: list[Row] = []
        self._sealed_chain = GENESIS
        self._unsealed = 0
        self._seal_at = 2 * SEGMENT_BYTES
        self._wake = asyncio.Event()
        self._closing = False
        self._closed = False
        self._replaces_tip = False
        self._writing = False
        self._recovering = False
        self._writer: asyncio.Task[None] | None = None
        self._on_failure: Callable[[], None] = lambda: None
        self.seq = 0
        """Position of the newest entry, durable or about to be."""
        self.chain = GENESIS
        self.last_ms = 0
        self.failed = False
        """The last write failed; nothing is accepted until :meth:`replay` has been run again."""
        self.rolled_back = False
        """The replay found less than this node once wrote, and was told to accept that."""

    @classmethod
    def open(cls, path: Path, key: bytes, *, accept_rollback: bool = False) -> Self:
        """Open or create the journal chained under ``key``; call :meth:`replay` before anything else."""
        fresh = not path.exists() or path.stat().st_size == 0
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not fresh:
            check_magic(path)
        tip = TipFile.open(path.with_suffix(".tip"), key, GENESIS, create=fresh, replace=accept_rollback)
        if fresh:
            path.touch(mode=0o600)
        try:
            database = open_database(path, fresh=fresh)
        except BaseException:
            tip.close()
            raise
        return cls(path, key, database, tip, accept_rollback)

    def replay(self, after: int = 0, *, again: bool = False) -> Iterator[Entry]:
        """Re-hash every durable entry in order and yield those after a position; then the journal accepts appends.

        Args:
            again: leave out segments before ``after``: this process has checked them before.
        """
        tip = self._tip.last

        def differs(seq: int) -> None:
            self._roll_back(f"journal entry {seq} is not the one this node wrote", seq)

        replay = Replay(self._database, self._key, tip, differs)
        if again:
            replay.skip(after)
        yield from replay.entries(after)
        seq = replay.seq
        if seq < tip.seq:
            missing = f"journal entry {seq + 1} is missing: this node wrote {tip.seq} entries, {seq} are here"
            self._roll_back(missing, seq + 1)
        self.rolled_back = self.rolled_back or (self._tip.lost and self._accept_rollback)
        self._replaces_tip = self._replaces_tip or self.rolled_back
        self.seq, self.chain, self.last_ms, self.failed = seq, replay.chain, replay.at_ms, False
        self._sealed_chain, self._unsealed = replay.sealed_chain, replay.unsealed

    def entry(self, seq: int) -> Entry:
        """One entry, durable or about to be. Raises ``StorageUnavailable``, ``JournalCorrupt``."""
        for rows in (self._in_flight, self._group.rows):
            if rows and rows[0][0] <= seq <= rows[-1][0]:
                _, kind, at_ms, body, _ = rows[seq - rows[0][0]]
                break
        else:
            _, kind, at_ms, body, _ = self._archive.row(seq)
        try:
            return Entry(seq, at_ms, decode_content(kind, body))
        except ValueError as error:
            raise JournalCorrupt(f"journal entry {seq} cannot be decoded: {error}", entry=seq) from error

    def passes(self, seq: int, chain: bytes) -> bool:
        """Whether the durable entry at ``seq`` has this chain hash; asked before a replay from there."""
        try:
            return seq > 0 and self._archive.row(seq)[4] == chain
        except TiramiError:
            return False  # whatever is wrong there, the replay will name it

    def _roll_back(self, reason: str, entry: int) -> None:
        if not self._accept_rollback:
            raise JournalRollback(reason, entry=entry)
        self.rolled_back = True

    async def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to write.

        Args:
            on_failure: called in the writer's thread when a group could not be written, before anybody learns of it.
                Until it has returned, nothing is accepted.
        """
        self._on_failure = on_failure
        self._writer = asyncio.create_task(self._write_groups(), name="journal-writer")
        self._writer.add_done_callback(self._ended)
        self._wake.set()  # there may be entries to seal

    def append(self, contents: Sequence[Content], at_ms: int) -> "asyncio.Future[None]":
        """Append as one group: all of them become durable or none.

        Returns a future that resolves when they are on disk and raises ``StorageUnavailable`` when they are not.
        """
        if not self.accepting:
            raise StorageUnavailable("the journal cannot be written", retry_after=5)
        self.last_ms = max(self.last_ms, at_ms)
        for content in contents:
            body, kind = encode_content(content), int(kind_of(content))
            self.seq += 1
            self.chain = chain_hash(self._key, self.chain, self.seq, kind, self.last_ms, body)
            self._group.rows.append((self.seq, kind, self.last_ms, body, self.chain))
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.written.append(written)
        self._wake.set()
        return written

    async def ended(self) -> NoReturn:
        """Wait for as long as entries are written. Raises ``StorageUnavailable`` when the writer has ended."""
        assert self._writer is not None
        await asyncio.wait([self._writer])
        raise _abandoned() from (None if self._writer.cancelled() else self._writer.exception())

    async def barrier(self) -> None:
        """Return when everything appended so far is on disk. Raises ``StorageUnavailable`` when it is not."""
        if self._closing or self._idle or self._gone or (self.failed and not self._writing):
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.written.append(written)
        self._wake.set()
        await written

    @property
    def accepting(self) -> bool:
        """Whether entries can be appended: the writer runs, and what it wrote last is what is known."""
        return self._writer is not None and not (self._gone or self.failed or self._recovering or self._closing)

    @property
    def _gone(self) -> bool:
        return self._writer is not None and self._writer.done()

    @property
    def _idle(self) -> bool:
        return not self._writing and not self._group.written

    def writable(self) -> bool:
        """Whether a write would succeed now: tried on a scratch file beside the journal."""
        probe = self._path.with_suffix(".probe")
        try:
            probe.write_bytes(bytes(1 << 18))
        except OSError:
            return False
        finally:
            with suppress(OSError):  # a disk that has become read-only refuses this too
                probe.unlink(missing_ok=True)
        return True

    def copy_to(self, target: Path) -> None:
        """Copy the durable entries to a new database file (0600) while writing goes on; for a thread of its own.

        Raises ``StorageUnavailable``; then there is no file.
        """
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(target)) as copy, self._database_turn:
                self._database.backup(copy, pages=_COPY_PAGES, progress=self._let_write)
        except (OSError, sqlite3.Error) as error:
            target.unlink(missing_ok=True)
            raise StorageUnavailable(f"the journal cannot be copied: {error}", retry_after=5) from error

    def _let_write(self, _status: int, remaining: int, _total: int) -> None:
        """Between two steps of a copy, never after the last: a group that is written goes into the copy as well."""
        if remaining:
            self._database_turn.release()
            time.sleep(_COPY_PAUSE_S)
            self._database_turn.acquire()
            if self._closed:
                raise OSError("the node stops")

    def abandon(self) -> None:
        """Let go of the files without having started: the way out of a refused start."""
        self._executor.shutdown()
        with self._database_turn:
            self._closed = True
            self._archive.close()
            self._database.close()
        self._tip.close()

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])
        self.abandon()

    async def _write_groups(self) -> None:
        while not (self._closing and not self._group.written):
            await self._wake.wait()
            self._wake.clear()
            before = self._unsealed
            if self._group.written:
                await self._write_group()
            await self._seal_old(2 * (self._unsealed - before))

    async def _write_group(self) -> None:
        group, self._group = self._group, _Group([], [])
        self._writing, self._in_flight = True, group.rows
        try:
            await self._in_thread(self._write, group.rows)
        except Exception as error:
            await self._fail(group, error)
        except BaseException:
            _resolve(group, _abandoned())  # it may be on disk all the same: the next start will tell
            raise
        else:
            self._unsealed += sum(len(row[3]) for row in group.rows)
            _resolve(group, None)
        finally:
            self._writing, self._in_flight = False, []

    async def _fail(self, group: _Group, error: Exception) -> None:
        """Nothing of this group happened, nor of what was chained onto it meanwhile."""
        self.failed = self._recovering = True
        self._in_flight = []
        lost, self._group = self._group, _Group([], [])
        try:
            await self._in_thread(self._on_failure)
        except Exception:
            _log.exception("journal_unrecovered")  # it stays failed: nothing is accepted until a restart
        self._recovering = False
        asked_meanwhile, self._group = self._group, _Group([], [])
        unavailable = StorageUnavailable(f"the journal cannot be written: {error}", retry_after=5)
        for unwritten in (group, lost, asked_meanwhile):
            _resolve(unwritten, unavailable)

    def _ended(self, writer: "asyncio.Task[None]") -> None:
        """Nothing is accepted any more, and nobody waits for a writer that is gone."""
        if self._closing and not writer.cancelled() and writer.exception() is None:
            return
        self.failed = True
        _log.critical("journal_writer_ended", reason="cancelled" if writer.cancelled() else repr(writer.exception()))
        group, self._group = self._group, _Group([], [])
        _resolve(group, _abandoned())

    async def _in_thread(self, work: Callable[..., None], *values: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work, *values)

    def _write(self, rows: list[Row]) -> None:
        if not rows:
            return
        with self._transaction():
            for start in range(0, len(rows), _ROWS_A_STATEMENT):
                part = rows[start : start + _ROWS_A_STATEMENT]
                places = ", ".join(["(?, ?, ?, ?, ?)"] * len(part))
                self._database.execute(f"INSERT INTO entries VALUES {places}", [value for row in part for value in row])
        with suppress(OSError):  # the group is durable; an older tip is merely a weaker one
            self._tip.write(Tip(rows[-1][0], rows[-1][4]), both=self._replaces_tip)
            self._replaces_tip = False

    async def _seal_old(self, share: int) -> None:
        """Seal all that is due while nobody waits; else one segment, or ``share`` bytes, so as never to fall behind."""
        most = self._unsealed - share
        while self._unsealed >= self._seal_at and not self._closing:
            await self._in_thread(self._seal)
            if self._group.written and self._unsealed <= most:
                break

    def _seal(self) -> None:
        """Move the oldest entries that are in no segment into one. Whatever goes wrong, they stay where they are."""
        try:
            rows = self._oldest()
            segment = Segment.of(rows, self._sealed_chain, self._key)
            with self._transaction():
                columns = segment.first, segment.last, segment.chain, segment.seal, segment.data
                self._database.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", columns)
                self._database.execute("DELETE FROM entries WHERE seq <= ?", (segment.last,))
        except Exception as error:
            _log.warning("journal_not_sealed", reason=str(error))
            self._seal_at = self._unsealed + SEGMENT_BYTES
        else:
            self._sealed_chain, self._seal_at = segment.chain, 2 * SEGMENT_BYTES
            self._unsealed -= sum(len(row[3]) for row in rows)

    def _oldest(self) -> list[Row]:
        """Rows for one segment, re-hashed: nothing the disk has changed meanwhile comes under a seal."""
        rows: list[Row] = []
        size, chain = 0, self._sealed_chain
        for row in self._database.execute("SELECT seq, kind, at_ms, body, chain FROM entries ORDER BY seq"):
            seq, kind, at_ms, body, expected = row
            chain = chain_hash(self._key, chain, seq, kind, at_ms, body)
            if chain != expected:
                raise JournalCorrupt(f"journal entry {seq} does not match its hash under this node's key", entry=seq)
            rows.append(row)
            size += len(body)
            if size >= SEGMENT_BYTES:
                break
        return rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._database_turn:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def _abandoned() -> StorageUnavailable:
    return StorageUnavailable("the journal's writer has ended; the node has to be started again")


def _resolve(group: _Group, error: StorageUnavailable | None) -> None:
    for written in group.written:
        if written.done():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
            written.exception()  # marked as seen: whoever awaits it still gets it
