"""The journal: chain, group commit, damage found and named."""

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from tirami.core.errors import DataDirLocked, JournalCorrupt, JournalRollback, StartError, StorageUnavailable
from tirami.ledger import Journal, KillSet
from tirami.ledger.entries import ClaimDropped, Content, Entry, EntryKind, HoldReleased, kind_of
from tirami.ledger.journal import GENESIS
from tirami.ledger.tip import TipFile
from tirami.proto import Envelope

KEY = b"k" * 32


def fact(number: int) -> KillSet:
    return KillSet(bool(number % 2), f"reason {number}", "operator")


async def written(path: Path, count: int, groups: int = 1) -> Journal:
    journal = Journal.open(path, KEY)
    list(journal.replay())
    await journal.start(lambda: None)
    for group in range(groups):
        pending = [journal.append([fact(group * count + i)], 1_000 + i) for i in range(count)]
        for future in pending:
            await future
    return journal


def read(path: Path) -> list[Entry]:
    journal = Journal.open(path, KEY)
    try:
        return list(journal.replay())
    finally:
        journal.abandon()


async def test_what_was_acknowledged_is_read_back_in_order(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 50)
    await journal.close()
    entries = read(tmp_path / "journal.db")
    assert [entry.seq for entry in entries] == list(range(1, 51))
    assert [entry.content for entry in entries] == [fact(i) for i in range(50)]
    assert all(a.at_ms <= b.at_ms for a, b in zip(entries, entries[1:], strict=False))


async def test_entries_of_every_kind_are_read_back(tmp_path: Path) -> None:
    entries: list[Content] = [
        Envelope("trade", b"body", (bytes(64),), ()),
        HoldReleased(bytes(16), "cancelled"),
        fact(1),
        ClaimDropped(bytes(16), "stop"),
    ]
    assert [kind_of(content) for content in entries] == list(EntryKind)
    journal = await written(tmp_path / "journal.db", 0)
    await journal.append(entries, 1_000)
    await journal.close()
    assert [entry.content for entry in read(tmp_path / "journal.db")] == entries


async def test_time_never_runs_backwards_in_the_journal(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 3)
    await journal.append([fact(9)], 5)
    await journal.close()
    assert read(tmp_path / "journal.db")[-1].at_ms == 1_002


async def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 5)
    await journal.close()
    shutil.copy(tmp_path / "journal.db", tmp_path / "old.db")
    journal = await written(tmp_path / "journal.db", 5)
    await journal.close()
    shutil.copy(tmp_path / "old.db", tmp_path / "journal.db")
    with pytest.raises(JournalRollback, match="entry 6"):
        read(tmp_path / "journal.db")
    accepted = Journal.open(tmp_path / "journal.db", KEY, accept_rollback=True)
    assert len(list(accepted.replay())) == 5
    assert accepted.rolled_back
    await accepted.start(lambda: None)
    await accepted.append([fact(99)], 2_000)
    await accepted.close()
    assert read(tmp_path / "journal.db")[-1].content == fact(99), "accepted once, it is the journal"


async def test_a_journal_without_its_tip_is_refused(tmp_path: Path) -> None:
    await (await written(tmp_path / "journal.db", 5)).close()
    for damage in (None, b"", bytes(1024), b"x" * 1024):
        (tmp_path / "journal.tip").unlink(missing_ok=True)
        if damage is not None:
            (tmp_path / "journal.tip").write_bytes(damage)
        with pytest.raises(JournalRollback, match="how far"):
            read(tmp_path / "journal.db")
    accepted = Journal.open(tmp_path / "journal.db", KEY, accept_rollback=True)
    assert len(list(accepted.replay())) == 5
    assert accepted.rolled_back
    accepted.abandon()


async def test_a_database_that_is_gone_is_refused(tmp_path: Path) -> None:
    await (await written(tmp_path / "journal.db", 5)).close()
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    with pytest.raises(JournalRollback, match="entry 1 is missing"):
        read(tmp_path / "journal.db")


async def test_nobody_without_the_key_can_chain_a_journal(tmp_path: Path) -> None:
    await (await written(tmp_path / "journal.db", 5)).close()
    (tmp_path / "journal.tip").unlink()
    stranger = Journal.open(tmp_path / "journal.db", b"s" * 32, accept_rollback=True)
    with pytest.raises(JournalCorrupt, match="entry 1"):
        list(stranger.replay())
    stranger.abandon()


def abandoned_copy(source: Path, target: Path) -> None:
    """The files as a killed process leaves them: database, write-ahead log and tip."""
    target.mkdir()
    for file in source.iterdir():
        shutil.copy(file, target / file.name)


@pytest.mark.parametrize("victim", ["journal.db", "journal.db-wal"])
async def test_a_flipped_byte_is_found_or_harmless(tmp_path: Path, victim: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    journal = await written(home / "journal.db", 40, groups=3)
    await journal.close()
    journal = await written(home / "journal.db", 20, groups=2)
    abandoned_copy(home, tmp_path / "killed")
    await journal.close()
    expected = read_copy(tmp_path, "clean", None)
    assert len(expected) == 160
    size = (tmp_path / "killed" / victim).stat().st_size
    rng = random.Random(7)
    refused = 0
    for trial in range(60):
        offset = rng.randrange(size)
        try:
            entries = read_copy(tmp_path, f"trial{trial}", (victim, offset))
        except StartError as error:
            assert isinstance(error, JournalCorrupt | JournalRollback) or "schema" in error.message
            refused += 1
        else:
            assert entries == expected
    assert refused > 10


def read_copy(tmp_path: Path, name: str, flip: tuple[str, int] | None) -> list[Entry]:
    target = tmp_path / name
    abandoned_copy(tmp_path / "killed", target)
    if flip is not None:
        path = target / flip[0]
        data = bytearray(path.read_bytes())
        data[flip[1]] ^= 1 << (flip[1] % 8)
        path.write_bytes(data)
    try:
        return read(target / "journal.db")
    finally:
        shutil.rmtree(target)


async def test_a_full_disk_fails_the_group_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    failures: list[int] = []
    journal._on_failure = lambda: failures.append(journal.seq)
    monkeypatch.setattr(journal, "_write", lambda rows: (_ for _ in ()).throw(OSError("no space left on device")))
    doomed = journal.append([fact(3)], 1)
    chained = journal.append([fact(4)], 1)
    for future in (doomed, chained):
        with pytest.raises(StorageUnavailable):
            await future
    assert failures == [4]
    with pytest.raises(StorageUnavailable):
        journal.append([fact(5)], 1)
    assert len(list(journal.replay())) == 2
    monkeypatch.undo()
    await journal.append([fact(6)], 1)
    await journal.close()
    assert [entry.content for entry in read(tmp_path / "journal.db")][-1] == fact(6)


async def test_files_are_private(tmp_path: Path) -> None:
    journal = await written(tmp_path / "home" / "journal.db", 1)
    await journal.close()
    for file in ("journal.db", "journal.tip"):
        assert os.stat(tmp_path / "home" / file).st_mode & 0o077 == 0


async def test_a_crash_before_the_schema_is_a_fresh_journal(tmp_path: Path) -> None:
    """Killed after the files were made: tip and an empty database, or one with nothing but SQLite's own header."""
    for name in ("empty", "header"):
        path = tmp_path / name / "journal.db"
        path.parent.mkdir()
        TipFile.open(path.with_suffix(".tip"), KEY, GENESIS, create=True, replace=False).close()
        database = sqlite3.connect(path)
        if name == "header":
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA user_version = 0")
        database.close()
        assert (path.stat().st_size > 0) == (name == "header")
        assert read(path) == []
        await (await written(path, 3)).close()
        assert len(read(path)) == 3


async def test_a_schema_lost_later_is_no_fresh_journal(tmp_path: Path) -> None:
    await (await written(tmp_path / "journal.db", 3)).close()
    database = sqlite3.connect(tmp_path / "journal.db")
    database.execute("DROP TABLE entries")
    database.close()
    with pytest.raises(JournalRollback, match="entry 1 is missing"):
        read(tmp_path / "journal.db")


async def test_a_tip_that_cannot_be_written_fails_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    failures: list[int] = []
    journal._on_failure = lambda: failures.append(1)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuses)
        await journal.append([fact(3)], 1)
    await journal.append([fact(4)], 1)
    await journal.close()
    assert not failures
    assert [entry.content for entry in read(tmp_path / "journal.db")][-2:] == [fact(3), fact(4)]


async def test_a_tip_left_behind_is_merely_weaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    monkeypatch.setattr(os, "pwrite", refuses)
    await journal.append([fact(3)], 1)
    await journal.close()
    monkeypatch.undo()
    assert len(read(tmp_path / "journal.db")) == 3


def refuses(*_: object) -> int:
    raise OSError("input/output error")


@pytest.mark.parametrize("error", [RuntimeError("bug"), OverflowError("too large"), MemoryError(), OSError("disk")])
async def test_an_unexpected_error_halfway_fails_the_group_and_not_the_writer(tmp_path: Path, error: Exception) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    recovered: list[int] = []
    journal._on_failure = lambda: recovered.append(len(list(journal.replay())))
    real = journal._database
    journal._database = cast(sqlite3.Connection, Breaking(real, error))
    with pytest.raises(StorageUnavailable):
        await journal.append([fact(3)], 1)
    journal._database = real
    assert recovered == [2], "nothing of the group is seen, not even by the connection that wrote half of it"
    assert not real.in_transaction
    await journal.append([fact(4)], 1)
    await journal.close()
    assert [entry.content for entry in read(tmp_path / "journal.db")] == [fact(0), fact(1), fact(4)]


class Breaking:
    """A connection that breaks between the insertion of rows and their commit."""

    def __init__(self, database: sqlite3.Connection, error: Exception) -> None:
        self._database = database
        self._error = error

    def execute(self, statement: str, *values: object) -> object:
        if statement == "COMMIT":
            raise self._error
        return self._database.execute(statement, *values)

    @property
    def in_transaction(self) -> bool:
        return self._database.in_transaction


async def test_a_recovery_that_fails_leaves_a_journal_that_says_so(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    journal._on_failure = lambda: (_ for _ in ()).throw(RuntimeError("bug"))
    real = journal._database
    journal._database = cast(sqlite3.Connection, Breaking(real, OSError("disk")))
    doomed, chained = journal.append([fact(3)], 1), journal.append([fact(4)], 1)
    for future in (doomed, chained):
        with pytest.raises(StorageUnavailable):
            await future
    journal._database = real
    with pytest.raises(StorageUnavailable):
        journal.append([fact(5)], 1)
    await journal.barrier()
    await journal.close()
    assert len(read(tmp_path / "journal.db")) == 2


@pytest.mark.parametrize("error", [RuntimeError("bug"), MemoryError(), ValueError("zlib")], ids=repr)
async def test_what_cannot_be_sealed_stays_where_it_is_and_writing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    journal = await written(tmp_path / "journal.db", 2)

    def fails() -> None:
        raise error

    monkeypatch.setattr(journal, "_oldest", fails)
    journal._seal_at = 0
    async with asyncio.timeout(5):
        for number in (2, 3):
            await journal.append([fact(number)], 1)
        await journal.close()
    assert [entry.content for entry in read(tmp_path / "journal.db")] == [fact(number) for number in range(4)]


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "being written"])
async def test_a_writer_that_dies_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    writing, free, write = asyncio.Event(), threading.Event(), journal._write
    loop = asyncio.get_running_loop()

    def slow(rows: list[Any]) -> None:
        loop.call_soon_threadsafe(writing.set)
        free.wait(5)
        write(rows)

    monkeypatch.setattr(journal, "_write", slow)
    doomed = [journal.append([fact(2)], 1)]
    if begun:
        await writing.wait()
        doomed.append(journal.append([fact(3)], 1))
    assert journal._writer is not None
    journal._writer.cancel()
    free.set()
    async with asyncio.timeout(5):
        for future in doomed:
            with pytest.raises(StorageUnavailable, match="writer has ended"):
                await future
        assert not journal.accepting
        with pytest.raises(StorageUnavailable):
            journal.append([fact(4)], 1)
        await journal.barrier()
        await journal.close()
    assert len(read(tmp_path / "journal.db")) == (3 if begun else 2)


async def test_two_processes_never_share_a_journal(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 2)
    with pytest.raises(DataDirLocked, match="another process"):
        Journal.open(tmp_path / "journal.db", KEY)
    await journal.append([fact(3)], 1)
    await journal.close()
    assert len(read(tmp_path / "journal.db")) == 3


def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tirami-ledger.json"
    path.write_text('{"version": 1}')
    with pytest.raises(JournalCorrupt, match="no journal"):
        Journal.open(path, KEY)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {path.name: '{"version": 1}'}


async def test_a_read_only_disk_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the scratch file can be neither written nor removed, whether there is one or not."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    journal = await written(tmp_path / "journal.db", 1)
    assert journal.writable()
    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", refused)
        disk.setattr(Path, "unlink", refused)
        assert not journal.writable()
    await journal.close()
