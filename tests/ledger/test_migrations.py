"""From an older schema to this one: everything or nothing, and a copy of what was before."""

import sqlite3
from pathlib import Path

import pytest

from tests.ledger.test_journal import KEY, fact, read, written
from tirami.core.errors import JournalCorrupt, JournalRollback, JournalTooNew, MigrationFailed
from tirami.ledger import schema as schema_module
from tirami.ledger.journal import Journal
from tirami.ledger.migrations import Migration, migrate, schema_version


def old_database(path: Path, version: int = 1) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("CREATE TABLE old (seq INTEGER PRIMARY KEY, body BLOB)")
    database.executemany("INSERT INTO old VALUES (?, ?)", [(number, b"%d" % number) for number in range(100)])
    database.execute(f"PRAGMA user_version = {version}")
    return database


def rename(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE old RENAME TO newer")


def widen(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE newer ADD COLUMN length INTEGER")
    database.execute("UPDATE newer SET length = length(body)")


STEPS = (Migration(3, widen), Migration(2, rename))


def content(path: Path) -> tuple[int, set[str]]:
    database = sqlite3.connect(path)
    try:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return schema_version(database), tables
    finally:
        database.close()


def test_steps_run_in_the_order_of_their_numbers_and_the_old_file_stays_beside(tmp_path: Path) -> None:
    database = old_database(tmp_path / "journal.db")
    copy = migrate(database, tmp_path / "journal.db", STEPS, 3)
    assert database.execute("SELECT sum(length) FROM newer").fetchone() == (190,)
    database.close()
    assert content(tmp_path / "journal.db") == (3, {"newer"})
    assert copy == tmp_path / "journal.db.schema-1"
    assert copy is not None
    assert content(copy) == (1, {"old"})
    assert copy.stat().st_mode & 0o077 == 0


def test_only_the_missing_steps_run(tmp_path: Path) -> None:
    database = old_database(tmp_path / "journal.db")
    migrate(database, tmp_path / "journal.db", STEPS, 2)
    copy = migrate(database, tmp_path / "journal.db", STEPS, 3)
    assert copy == tmp_path / "journal.db.schema-2"
    assert migrate(database, tmp_path / "journal.db", STEPS, 3) is None
    database.close()
    assert {path.name for path in tmp_path.iterdir()} == {"journal.db", "journal.db.schema-1", "journal.db.schema-2"}


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), OSError("full")])
def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path, error: Exception) -> None:
    database = old_database(tmp_path / "journal.db")

    def fail(database: sqlite3.Connection) -> None:
        database.execute("DROP TABLE newer")
        raise error

    with pytest.raises(MigrationFailed, match="schema 1 to 3") as caught:
        migrate(database, tmp_path / "journal.db", (Migration(2, rename), Migration(3, fail)), 3)
    assert caught.value.data == {"schema": 1}
    assert not database.in_transaction
    assert migrate(database, tmp_path / "journal.db", STEPS, 3) is not None, "and can be tried again"
    database.close()
    assert content(tmp_path / "journal.db.schema-1") == (1, {"old"})


def test_a_step_with_a_bug_is_undone_and_not_hidden(tmp_path: Path) -> None:
    database = old_database(tmp_path / "journal.db")

    def bug(database: sqlite3.Connection) -> None:
        database.execute("DROP TABLE newer")
        raise KeyError("bug")

    with pytest.raises(KeyError):
        migrate(database, tmp_path / "journal.db", (Migration(2, rename), Migration(3, bug)), 3)
    database.close()
    assert content(tmp_path / "journal.db") == (1, {"old"})


def test_a_disk_without_room_for_the_copy_changes_nothing(tmp_path: Path) -> None:
    database = old_database(tmp_path / "journal.db")
    (tmp_path / "journal.db.schema-1").mkdir()
    with pytest.raises(MigrationFailed):
        migrate(database, tmp_path / "journal.db", STEPS, 3)
    database.close()
    assert content(tmp_path / "journal.db") == (1, {"old"})


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_from_which_nothing_leads_on_is_refused(tmp_path: Path, version: int) -> None:
    database = old_database(tmp_path / "journal.db", version)
    with pytest.raises(JournalCorrupt, match="never existed"):
        migrate(database, tmp_path / "journal.db", STEPS, 3)
    database.close()
    assert content(tmp_path / "journal.db") == (version, {"old"})
    assert not (tmp_path / f"journal.db.schema-{version}").exists()


def test_a_newer_schema_is_refused_untouched_and_so_is_its_copy(tmp_path: Path) -> None:
    database = old_database(tmp_path / "journal.db", 4)
    (tmp_path / "journal.db.schema-4").write_bytes(b"precious")
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(JournalTooNew) as caught:
        migrate(database, tmp_path / "journal.db", STEPS, 3)
    database.close()
    assert caught.value.data == {"schema": 4}
    assert (tmp_path / "journal.db").read_bytes() == before
    assert (tmp_path / "journal.db.schema-4").read_bytes() == b"precious"


# --- under the journal -------------------------------------------------------------------------------------------


async def test_a_journal_comes_through_a_migration_with_every_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up schema to come: entries move to another table and back under a view."""

    def split(database: sqlite3.Connection) -> None:
        database.execute("ALTER TABLE entries RENAME TO stored")
        database.execute("CREATE VIEW entries AS SELECT seq, kind, at_ms, body, chain FROM stored")

    await (await written(tmp_path / "journal.db", 20)).close()
    monkeypatch.setattr(schema_module, "SCHEMA_VERSION", schema_module.SCHEMA_VERSION + 1)
    monkeypatch.setattr(
        schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, Migration(schema_module.SCHEMA_VERSION, split))
    )
    assert [entry.content for entry in read(tmp_path / "journal.db")] == [fact(number) for number in range(20)]
    copy = tmp_path / f"journal.db.schema-{schema_module.SCHEMA_VERSION - 1}"
    assert copy.exists()
    monkeypatch.undo()
    with pytest.raises(JournalTooNew):
        read(tmp_path / "journal.db")
    copy.rename(tmp_path / "journal.db")
    assert len(read(tmp_path / "journal.db")) == 20, "back to the program before"


async def test_a_migration_that_loses_entries_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await written(tmp_path / "journal.db", 20)).close()
    monkeypatch.setattr(schema_module, "SCHEMA_VERSION", schema_module.SCHEMA_VERSION + 1)
    lossy = Migration(
        schema_module.SCHEMA_VERSION, lambda database: database.execute("DELETE FROM entries WHERE seq > 10") and None
    )
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, lossy))
    with pytest.raises(JournalRollback, match="entry 11 is missing"):
        read(tmp_path / "journal.db")


async def test_a_copy_of_a_journal_that_is_being_written_is_whole(tmp_path: Path) -> None:
    """Groups go on while it is copied; the copy ends with one of them, and chains to its end."""
    import asyncio

    journal = await written(tmp_path / "journal.db", 3_000)
    copying = asyncio.create_task(asyncio.to_thread(journal.copy_to, tmp_path / "copy.db"))
    more = 0
    while not copying.done():
        await journal.append([fact(more), fact(more + 1)], 5_000)
        more += 2
    await copying
    await journal.close()
    (tmp_path / "copied").mkdir()
    (tmp_path / "copy.db").rename(tmp_path / "copied" / "journal.db")
    copied = Journal.open(tmp_path / "copied" / "journal.db", KEY, accept_rollback=True)
    entries = len(list(copied.replay()))
    copied.abandon()
    assert 3_000 <= entries <= 3_000 + more
    assert entries % 2 == 0, "no half of a group"
    assert (tmp_path / "copied" / "journal.db").stat().st_mode & 0o077 == 0


async def test_a_copy_ends_when_the_journal_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from tirami.core.errors import StorageUnavailable

    monkeypatch.setattr("tirami.ledger.journal._COPY_PAGES", 1)
    journal = await written(tmp_path / "journal.db", 3_000)
    copying = asyncio.create_task(asyncio.to_thread(journal.copy_to, tmp_path / "copy.db"))
    await asyncio.sleep(0.02)
    assert not copying.done()
    await journal.close()
    with pytest.raises(StorageUnavailable):
        await copying
    assert not (tmp_path / "copy.db").exists()
    assert len(read(tmp_path / "journal.db")) == 3_000
