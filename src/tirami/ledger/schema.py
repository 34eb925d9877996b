"""The journal's database: its tables, its settings, and how a file of an earlier schema becomes one of this."""

import sqlite3
from pathlib import Path

from tirami.core.errors import JournalCorrupt, JournalTooNew

SCHEMA_VERSION = 2
_ENTRIES = (
    "CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
    " body BLOB NOT NULL, chain BLOB NOT NULL)"
)
_SEGMENTS = (
    "CREATE TABLE IF NOT EXISTS segments (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, chain BLOB NOT NULL,"
    " seal BLOB NOT NULL, data BLOB NOT NULL)"
)


def open_database(path: Path, key: bytes, *, fresh: bool) -> sqlite3.Connection:
    """The writer's connection. Raises ``JournalCorrupt``, ``JournalTooNew``."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _configure(database, key, fresh)
    except sqlite3.DatabaseError as error:
        database.close()
        raise JournalCorrupt(f"{path} cannot be read: {error}", entry=1) from error
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection that only reads: what is being written meanwhile delays it by nothing."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def _configure(database: sqlite3.Connection, key: bytes, fresh: bool) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if fresh or not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.execute("BEGIN EXCLUSIVE")
        database.execute(_ENTRIES)
        database.execute(_SEGMENTS)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise JournalTooNew(f"the journal has schema {version}, this program knows {SCHEMA_VERSION}", schema=version)
    if version == 1:
        database.execute("BEGIN EXCLUSIVE")
        migrate_1_to_2(database, key)
        database.execute("PRAGMA user_version = 2")
        database.execute("COMMIT")
    elif version != SCHEMA_VERSION:
        raise JournalCorrupt(f"the journal names schema {version}, which never existed", entry=0)
    for table in (_ENTRIES, _SEGMENTS):  # one that was dropped: its entries are missing, and will be named
        database.execute(table)


def migrate_1_to_2(database: sqlite3.Connection, key: bytes) -> None:
    """Schema 1 knew no segments. Its entries stay where they are and are sealed while the node runs."""
    del key
    database.execute(_SEGMENTS)
