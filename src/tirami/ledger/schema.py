"""The journal's database: its tables, its settings, and how a file of an earlier schema becomes one of this."""

import sqlite3
from pathlib import Path

import structlog

from tirami.core.errors import DataDirLocked, JournalCorrupt
from tirami.ledger.migrations import Migration, migrate

SCHEMA_VERSION = 3
_log = structlog.get_logger()
_ENTRIES = (
    "CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
    " body BLOB NOT NULL, chain BLOB NOT NULL)"
)
_SEGMENTS = (
    "CREATE TABLE IF NOT EXISTS segments (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, chain BLOB NOT NULL,"
    " seal BLOB NOT NULL, data BLOB NOT NULL)"
)


_MAGIC = b"SQLite format 3\0"


def _add_segments(database: sqlite3.Connection) -> None:
    """Schema 1 knew no segments. Its entries stay where they are and are sealed while the node runs."""
    database.execute(_SEGMENTS)


def _know_claims(_database: sqlite3.Connection) -> None:
    """Schema 2 knew no claims: an earlier program could not read an entry of that kind. Nothing else differs."""


MIGRATIONS: tuple[Migration, ...] = (Migration(2, _add_segments), Migration(3, _know_claims))
"""Every step from an earlier schema; see :mod:`tirami.ledger.migrations`."""


def check_magic(path: Path) -> None:
    """Before anything is made beside a file that is somebody else's. Raises ``JournalCorrupt``."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise JournalCorrupt(f"{path} is no journal", entry=0)


def open_database(path: Path, *, fresh: bool) -> sqlite3.Connection:
    """The writer's connection. Raises ``JournalCorrupt``, ``JournalTooNew``, ``MigrationFailed``, ``DataDirLocked``."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _configure(database, path, fresh)
    except sqlite3.DatabaseError as error:
        database.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise DataDirLocked(f"{path} is in use by another process") from error
        raise JournalCorrupt(f"{path} cannot be read: {error}", entry=1) from error
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection that only reads: what is being written meanwhile delays it by nothing."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _configure(database: sqlite3.Connection, path: Path, fresh: bool) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if fresh or not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.execute("BEGIN EXCLUSIVE")
        database.execute(_ENTRIES)
        database.execute(_SEGMENTS)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    copy = migrate(database, path, MIGRATIONS, SCHEMA_VERSION)
    if copy is not None:
        _log.info("journal_migrated", schema=SCHEMA_VERSION, copy=str(copy))
    for table in (_ENTRIES, _SEGMENTS):  # one that was dropped: its entries are missing, and will be named
        database.execute(table)
