"""Old entries under seal: moved by the running journal, read back one by one, damaged and named."""

import sqlite3
from pathlib import Path

import pytest

from tests.ledger.test_journal import KEY, fact, read, written
from tirami.core.errors import JournalCorrupt, JournalRollback
from tirami.ledger import Journal
from tirami.ledger.schema import SCHEMA_VERSION
from tirami.ledger.segments import GENESIS, Row, Segment, chain_hash

COUNT = 60


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 200)


def rows(count: int, previous: bytes = GENESIS) -> list[Row]:
    made: list[Row] = []
    for seq in range(1, count + 1):
        body = b"body %d" % seq
        previous = chain_hash(KEY, previous, seq, seq % 3, 1_000 + seq, body)
        made.append((seq, seq % 3, 1_000 + seq, body, previous))
    return made


def test_a_segment_gives_back_its_rows() -> None:
    made = rows(7)
    segment = Segment.of(made, GENESIS, KEY)
    assert segment.sealed(GENESIS, KEY)
    assert [segment.row(seq) for seq in range(1, 8)] == made
    assert not segment.sealed(bytes(32), KEY)
    assert not segment.sealed(GENESIS, b"x" * 32)


def test_any_flipped_bit_breaks_the_seal_and_the_entry_is_named() -> None:
    made = rows(5)
    segment = Segment.of(made, GENESIS, KEY)
    for place in range(len(segment.data)):
        data = bytearray(segment.data)
        data[place] ^= 1 << (place % 8)
        flipped = Segment(segment.first, segment.last, segment.chain, segment.seal, bytes(data))
        assert not flipped.sealed(GENESIS, KEY)
        if place >= 4 * 6:  # behind the offsets: in an entry
            length = (len(segment.data) - 4 * 6) // 5
            assert flipped.broken(GENESIS, KEY) == 1 + (place - 4 * 6) // length
        else:
            assert 1 <= flipped.broken(GENESIS, KEY) <= 5


async def sealed(path: Path) -> list[tuple[int, int]]:
    """A journal with some of its entries in segments: their first and last positions."""
    await (await written(path, 1, groups=COUNT)).close()
    database = sqlite3.connect(path)
    found = database.execute("SELECT first, last FROM segments ORDER BY first").fetchall()
    rest = database.execute("SELECT min(seq), max(seq) FROM entries").fetchone()
    database.close()
    assert len(found) > 3
    assert rest == (found[-1][1] + 1, COUNT)
    return found


async def test_a_running_journal_seals_old_entries_and_reads_them_back(tmp_path: Path) -> None:
    await sealed(tmp_path / "journal.db")
    assert [entry.content for entry in read(tmp_path / "journal.db")] == [fact(i) for i in range(COUNT)]
    journal = await written(tmp_path / "journal.db", 2)
    pending = journal.append([fact(98), fact(99)], 2_000)
    wanted = [*(fact(i) for i in range(COUNT)), fact(0), fact(1), fact(98), fact(99)]
    for _ in range(2):
        assert [journal.entry(seq).content for seq in range(1, COUNT + 5)] == wanted
        await pending
    with pytest.raises(JournalCorrupt, match=f"entry {COUNT + 5}"):
        journal.entry(COUNT + 5)
    await journal.close()


@pytest.mark.parametrize("after", [0, 1, 17, 30, COUNT - 1, COUNT])
async def test_a_replay_from_anywhere(tmp_path: Path, after: int) -> None:
    await sealed(tmp_path / "journal.db")
    for again in (False, True):
        journal = Journal.open(tmp_path / "journal.db", KEY)
        assert [entry.seq for entry in journal.replay(after, again=again)] == list(range(after + 1, COUNT + 1))
        whole = journal.seq, journal.chain, journal.last_ms, journal._sealed_chain
        assert list(journal.replay(COUNT)) == []
        assert (journal.seq, journal.chain, journal.last_ms, journal._sealed_chain) == whole
        journal.abandon()


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ("UPDATE segments SET data = zeroblob(length(data)) WHERE first = {first}", "{first}"),
        ("UPDATE segments SET seal = zeroblob(32) WHERE first = {first}", "{first}"),
        ("UPDATE segments SET chain = zeroblob(32) WHERE first = {first}", "{first}"),
        ("UPDATE segments SET last = last - 1 WHERE first = {first}", "{first}"),
        ("UPDATE segments SET last = 9223372036854775807 WHERE first = {first}", "{first}"),
        ("UPDATE segments SET last = -1 WHERE first = {first}", "{first}"),
        ("UPDATE segments SET data = 'text' WHERE first = {first}", "{first}"),
        ("UPDATE segments SET data = x'' WHERE first = {first}", "{first}"),
        ("UPDATE segments SET first = 1000 WHERE first = {first}", "{first}"),
        ("DELETE FROM segments WHERE first = {first}", "{first}"),
        ("DELETE FROM segments", "1"),
        ("DROP TABLE segments", "1"),
        ("DELETE FROM entries", "{rest}"),
    ],
)
async def test_damage_is_refused_and_named(tmp_path: Path, change: str, entry: str) -> None:
    found = await sealed(tmp_path / "journal.db")
    places = {"first": found[1][0], "rest": found[-1][1] + 1}
    database = sqlite3.connect(tmp_path / "journal.db")
    database.execute(change.format(**places))
    database.commit()
    database.close()
    for after in (0, COUNT):
        journal = Journal.open(tmp_path / "journal.db", KEY)
        with pytest.raises((JournalCorrupt, JournalRollback)) as refused:
            list(journal.replay(after))
        assert refused.value.data["entry"] == int(entry.format(**places))
        journal.abandon()


async def test_nothing_the_disk_has_changed_comes_under_a_seal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 1 << 20)
    await (await written(tmp_path / "journal.db", 1, groups=COUNT)).close()
    journal = await written(tmp_path / "journal.db", 1)
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 200)
    journal._seal_at = 400
    journal._database.execute("UPDATE entries SET at_ms = at_ms + 1 WHERE seq = 3")
    await journal.append([fact(1)], 1)
    await journal.close()
    with pytest.raises(JournalCorrupt, match="entry 3"):
        read(tmp_path / "journal.db")


async def test_a_journal_of_schema_1_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 1 << 20)
    await (await written(tmp_path / "journal.db", 1, groups=COUNT)).close()
    database = sqlite3.connect(tmp_path / "journal.db")
    database.execute("DROP TABLE segments")
    database.execute("PRAGMA user_version = 1")
    database.close()
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 200)
    assert [entry.content for entry in read(tmp_path / "journal.db")] == [fact(i) for i in range(COUNT)]
    journal = Journal.open(tmp_path / "journal.db", KEY)
    list(journal.replay())
    journal._seal_at = 400
    await journal.start(lambda: None)
    await journal.append([fact(99)], 2_000)
    while journal._unsealed >= 400:
        await journal.append([fact(99)], 2_000)
    await journal.close()
    database = sqlite3.connect(tmp_path / "journal.db")
    assert database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    assert database.execute("SELECT count(*) FROM segments").fetchone()[0] > 3
    database.close()
    assert [entry.content for entry in read(tmp_path / "journal.db")][:COUNT] == [fact(i) for i in range(COUNT)]


async def test_sealing_keeps_pace_with_a_writer_that_never_pauses(tmp_path: Path) -> None:
    journal = await written(tmp_path / "journal.db", 1)
    previous = journal.append([fact(0)], 1_000)
    for _ in range(30):  # the next group always waits while one is written
        group = journal.append([fact(i) for i in range(40)], 1_000)
        await previous
        previous = group
    await previous
    size = sum(len(row[0]) for row in journal._database.execute("SELECT body FROM entries").fetchall())
    await journal.close()
    assert size < 4 * 40 * 30, "a group or two, not thirty"
