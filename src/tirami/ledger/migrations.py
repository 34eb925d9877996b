"""From one schema of the journal's database to the next: numbered steps, one transaction, a copy beside the file first.

A step changes how entries are stored, never what they say: position, time, body and chain of every entry stay what was
hashed, so the replay that follows each start proves that a migration lost nothing. Steps are functions of the database
alone: no clock, no randomness, no other file.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tirami.core.errors import JournalCorrupt, JournalTooNew, MigrationFailed


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        to: schema version when it is done; it starts from the one before.
        run: works on a connection inside an open transaction; must not commit.
    """

    to: int
    run: Callable[[sqlite3.Connection], None]


def schema_version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def migrate(database: sqlite3.Connection, path: Path, migrations: Sequence[Migration], current: int) -> Path | None:
    """Bring the database to schema ``current``.

    Args:
        database: in autocommit mode, the only connection to the file.
        path: of the file; the copy goes to ``<name>.schema-<version>`` beside it and stays there.
        migrations: every step there is, in any order.

    Returns the copy; ``None`` when there was nothing to do.

    Raises:
        JournalTooNew: a later program wrote it; nothing was touched.
        JournalCorrupt: a schema from which no step leads on.
        MigrationFailed: a step or the disk; the database is as before.
    """
    version = schema_version(database)
    if version > current:
        raise JournalTooNew(f"the journal has schema {version}, this program knows {current}", schema=version)
    by_target = {migration.to: migration for migration in migrations}
    steps = [by_target.get(to) for to in range(version + 1, current + 1)]
    if None in steps:
        raise JournalCorrupt(f"the journal names schema {version}, which never existed", entry=0)
    if not steps:
        return None
    copy = path.with_name(f"{path.name}.schema-{version}")
    try:
        _copy(database, copy)
        _run(database, [step for step in steps if step is not None])
    except (sqlite3.Error, OSError) as error:
        raise MigrationFailed(
            f"the journal could not be brought from schema {version} to {current} and is as before: {error}",
            schema=version,
        ) from error
    return copy


def _run(database: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        for step in steps:
            step.run(database)
            database.execute(f"PRAGMA user_version = {step.to}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _copy(database: sqlite3.Connection, target: Path) -> None:
    """Complete under its name or not there; an earlier attempt's copy is replaced, it says the same."""
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(fresh)) as copy:
        database.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    fresh.replace(target)
