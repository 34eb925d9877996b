"""The append-only, hash-chained journal in SQLite (WAL, ``synchronous=FULL``, one writer, group commit).

``append`` assigns positions at once and returns a future that resolves when the entries are on disk; everything
that arrives while one group is being written goes out with the next. Each row carries
``chain = HMAC-SHA256(key, previous chain ‖ seq ‖ kind ‖ at_ms ‖ body)`` under a key derived from the node's; every
start re-hashes all of them.
"""

import asyncio
import hmac
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import structlog

from tirami.core.errors import DataDirLocked, JournalCorrupt, JournalRollback, StorageUnavailable
from tirami.ledger.entries import Content, Entry, decode_content, encode_content, kind_of
from tirami.ledger.migrations import Migration, migrate
from tirami.ledger.tip import Tip, TipFile

SCHEMA_VERSION = 1
MIGRATIONS: tuple[Migration, ...] = ()
"""Every step from an earlier schema; see :mod:`tirami.ledger.migrations`."""
_log = structlog.get_logger()
GENESIS = sha256(b"tirami/1/journal").digest()
_ROWS_A_STATEMENT = 100
"""Each step of a statement hands the interpreter lock over and back; one step for many rows keeps streams flowing."""
_SCHEMA = (
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
    " body BLOB NOT NULL, chain BLOB NOT NULL)"
)
_MAGIC = b"SQLite format 3\0"
_COPY_PAGES, _COPY_PAUSE_S = 256, 0.002
"""A copy goes on by a megabyte at a time and lets waiting groups write in between."""

Row = tuple[int, int, int, bytes, bytes]


def chain_hash(key: bytes, previous: bytes, seq: int, kind: int, at_ms: int, body: bytes) -> bytes:
    return hmac.digest(key, previous + seq.to_bytes(8) + bytes((kind,)) + at_ms.to_bytes(8) + body, "sha256")


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
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._group = _Group([], [])
        self._wake = asyncio.Event()
        self._closing = False
        self._closed = False
        self._replaces_tip = False
        self._writing = False
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
            _check_magic(path)
        tip = TipFile.open(path.with_suffix(".tip"), key, GENESIS, create=fresh, replace=accept_rollback)
        if fresh:
            path.touch(mode=0o600)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _configure(database, path, fresh)
        except sqlite3.DatabaseError as error:
            database.close()
            tip.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise DataDirLocked(f"{path} is in use by another process") from error
            raise JournalCorrupt(f"{path} cannot be read: {error}", entry=1) from error
        except BaseException:
            database.close()
            tip.close()
            raise
        return cls(path, key, database, tip, accept_rollback)

    def replay(self) -> Iterator[Entry]:
        """Yield every durable entry in order, re-hashing each; afterwards the journal accepts appends."""
        seq, chain, at_ms = 0, GENESIS, 0
        tip = self._tip.last
        try:
            for row in self._database.execute("SELECT seq, kind, at_ms, body, chain FROM entries ORDER BY seq"):
                entry = _checked(self._key, row, seq + 1, chain)
                seq, chain, at_ms = entry.seq, row[4], entry.at_ms
                if seq == tip.seq and chain != tip.chain:
                    self._roll_back(f"journal entry {seq} is not the one this node wrote", seq)
                yield entry
        except (sqlite3.Error, OverflowError) as error:
            raise JournalCorrupt(f"journal entry {seq + 1} cannot be read: {error}", entry=seq + 1) from error
        if seq < tip.seq:
            missing = f"journal entry {seq + 1} is missing: this node wrote {tip.seq} entries, {seq} are here"
            self._roll_back(missing, seq + 1)
        self.rolled_back = self.rolled_back or (self._tip.lost and self._accept_rollback)
        self._replaces_tip = self._replaces_tip or self.rolled_back
        self.seq, self.chain, self.last_ms, self.failed = seq, chain, at_ms, False

    def _roll_back(self, reason: str, entry: int) -> None:
        if not self._accept_rollback:
            raise JournalRollback(reason, entry=entry)
        self.rolled_back = True

    async def start(self, on_failure: Callable[[], None]) -> None:
        """Begin to write. ``on_failure`` is called when a group could not be written, before anybody learns of it."""
        self._on_failure = on_failure
        self._writer = asyncio.create_task(self._write_groups(), name="journal-writer")

    def append(self, contents: Sequence[Content], at_ms: int) -> "asyncio.Future[None]":
        """Append as one group: all of them become durable or none.

        Returns a future that resolves when they are on disk and raises ``StorageUnavailable`` when they are not.
        """
        if self.failed or self._closing:
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

    async def barrier(self) -> None:
        """Return when everything appended so far is on disk. Raises ``StorageUnavailable`` when it is not."""
        if self.failed or self._closing or self._idle:
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.written.append(written)
        self._wake.set()
        await written

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
            self._database.close()
        self._tip.close()

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
        self.abandon()

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._group.written):
            await self._wake.wait()
            self._wake.clear()
            group, self._group = self._group, _Group([], [])
            if not group.written:
                continue
            self._writing = True
            try:
                await loop.run_in_executor(self._executor, self._write, group.rows)
            except Exception as error:
                self._fail(group, error)
            else:
                _resolve(group, None)
            finally:
                self._writing = False

    def _fail(self, group: _Group, error: Exception) -> None:
        """Nothing of this group happened, nor of what was chained onto it meanwhile."""
        lost, self._group = self._group, _Group([], [])
        self.failed = True
        try:
            self._on_failure()
        except Exception:
            _log.exception("journal_unrecovered")  # it stays failed: nothing is accepted until a restart
        unavailable = StorageUnavailable(f"the journal cannot be written: {error}", retry_after=5)
        _resolve(group, unavailable)
        _resolve(lost, unavailable)

    def _write(self, rows: list[Row]) -> None:
        if not rows:
            return
        with self._database_turn:
            self._insert(rows)
        with suppress(OSError):  # the group is durable; an older tip is merely a weaker one
            self._tip.write(Tip(rows[-1][0], rows[-1][4]), both=self._replaces_tip)
            self._replaces_tip = False

    def _insert(self, rows: list[Row]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(rows), _ROWS_A_STATEMENT):
                part = rows[start : start + _ROWS_A_STATEMENT]
                places = ", ".join(["(?, ?, ?, ?, ?)"] * len(part))
                self._database.execute(f"INSERT INTO entries VALUES {places}", [value for row in part for value in row])
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _check_magic(path: Path) -> None:
    """Before anything is made beside a file that is somebody else's."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise JournalCorrupt(f"{path} is no journal", entry=0)


def _configure(database: sqlite3.Connection, path: Path, fresh: bool) -> None:
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if fresh or not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.execute("BEGIN EXCLUSIVE")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    copy = migrate(database, path, MIGRATIONS, SCHEMA_VERSION)
    if copy is not None:
        _log.info("journal_migrated", schema=SCHEMA_VERSION, copy=str(copy))


def _checked(key: bytes, row: tuple[object, ...], seq: int, previous: bytes) -> Entry:
    number, kind, at_ms, body, chain = row
    broken = JournalCorrupt(f"journal entry {seq} does not match its hash under this node's key", entry=seq)
    if number != seq or not isinstance(kind, int) or not isinstance(at_ms, int):
        raise broken
    if not isinstance(body, bytes) or not isinstance(chain, bytes) or not 0 <= kind <= 2 or at_ms < 0:
        raise broken
    if chain_hash(key, previous, seq, kind, at_ms, body) != chain:
        raise broken
    try:
        return Entry(seq, at_ms, decode_content(kind, body))
    except ValueError as error:
        raise JournalCorrupt(f"journal entry {seq} cannot be decoded: {error}", entry=seq) from error


def _resolve(group: _Group, error: StorageUnavailable | None) -> None:
    for written in group.written:
        if written.done():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
            written.exception()  # marked as seen: whoever awaits it still gets it
