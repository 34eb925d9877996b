"""Snapshots: what is read back is the state and all of it; whatever is wrong with the file, the journal is folded."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from tests.ledger.crash import copied
from tests.ledger.described import described, same
from tests.ledger.disk import Disk
from tests.market.conftest import House, opened_house
from tests.market.test_inference import order, serve
from tirami.core.errors import StorageUnavailable
from tirami.core.keys import SigningKey, journal_key
from tirami.core.units import Trm, UnixMs
from tirami.ledger import HoldReleased, State, grant_line, snapshot, snapshots
from tirami.ledger.snapshot import SnapshotFile, taken

KEY = b"k" * 32


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 10)
    monkeypatch.setattr("tirami.ledger.journal.SEGMENT_BYTES", 5_000)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions of the entries that ledgers folded while they were opened."""
    seen: list[int] = []
    apply = State.apply

    def counted(state: State, entry: object, admitted: object = None) -> None:
        seen.append(entry.seq)  # type: ignore[attr-defined]
        apply(state, entry, admitted)  # type: ignore[arg-type]

    monkeypatch.setattr(State, "apply", counted)
    return seen


async def business(house: House, trades: int = 6) -> None:
    for length in range(2, 2 + trades):
        house.engine.length = length
        await serve(house, max_tokens=9)
    booked = grant_line(house.ledger, house.node, SigningKey.generate().public_key)
    assert booked is not None
    await booked
    await house.heads.current()


async def test_a_clean_stop_leaves_nothing_to_fold(tmp_path: Path, folded: list[int]) -> None:
    async with opened_house(tmp_path) as house:
        await business(house)
        same(house.ledger)
        before = house.ledger.seq
    folded.clear()
    async with opened_house(tmp_path, node=house.node) as again:
        assert folded[0] == before + 1, "its own start is the first entry it folds"
        same(again.ledger)
        again.agent = await again.hosted()
        await business(again, 2)
        same(again.ledger)


async def test_after_a_crash_only_the_tail_is_folded(tmp_path: Path, folded: list[int]) -> None:
    async with opened_house(tmp_path / "home") as house:
        await business(house)
        task = house.ledger._snapshots._task
        assert task is not None
        await task
        ticket = await house.market.begin_inference(await order(house, house.agent, 5))
        copied(tmp_path / "home", tmp_path / "killed")
        end = house.ledger.seq
        await house.market.cancel(ticket)
    folded.clear()
    async with opened_house(tmp_path / "killed", node=house.node) as again:
        assert 1 < folded[0] <= end
        assert folded == list(range(folded[0], again.ledger.seq + 1))
        same(again.ledger)
        assert not again.ledger.state.holds.open


async def test_an_open_session_is_still_corrected_in_its_hour(tmp_path: Path) -> None:
    """The hold keeps the number of its spend in the window of its account."""
    async with opened_house(tmp_path) as house:
        ticket = await house.market.begin_inference(await order(house, house.agent, 5))
        journal = house.ledger._journal
        file = SnapshotFile(tmp_path / "a.snapshot", KEY, house.ledger.network)
        file.write(taken(house.ledger.state, journal, journal.seq, journal.chain))
        found = file.read(journal)
        assert found is not None
        holds = found.state.holds
        books = holds.books(house.agent.key)
        assert books.spends.total == ticket.ceiling
        holds.apply(HoldReleased(ticket.hold_id, "cancelled"), house.ledger.now())
        assert (books.spends.total, books.lifetime) == (0, 0)
        await house.market.cancel(ticket)


async def test_a_picture_of_a_busy_hour_is_taken_at_once(tmp_path: Path) -> None:
    """36 000 spends in the hour, ten a second: two numbers each, copied, not walked."""
    async with opened_house(tmp_path) as house:
        books = house.ledger.books(house.agent.key)
        journal = house.ledger._journal
        empty = taken(house.ledger.state, journal, journal.seq, journal.chain)
        for number in range(36_000):
            books.spends.add(UnixMs(number * 100), Trm(1))
        busy = taken(house.ledger.state, journal, journal.seq, journal.chain)
        assert len(busy.body) < len(empty.body) + 200


async def test_a_picture_shows_one_moment(tmp_path: Path) -> None:
    """Written late, while the state has gone on."""
    async with opened_house(tmp_path) as house:
        await business(house, 3)
        journal = house.ledger._journal
        then = described(house.ledger.state, house.ledger.now())
        picture = taken(house.ledger.state, journal, journal.seq, journal.chain)
        await business(house, 9)
        file = SnapshotFile(tmp_path / "a.snapshot", KEY, house.ledger.network)
        file.write(picture)
        found = file.read(journal)
        assert found is not None
        assert described(found.state, house.ledger.now()) == then
        assert journal.passes(found.seq, found.chain)


async def test_a_snapshot_that_cannot_be_used_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: list[int]
) -> None:
    async with opened_house(tmp_path) as house:
        await business(house)
    path, home = tmp_path / "journal.snapshot", tmp_path
    good = path.read_bytes()

    async def starts_from_nothing() -> None:
        folded.clear()
        async with opened_house(home, node=house.node) as again:
            assert folded[0] == 1
            same(again.ledger)

    for damage in (b"", good[:11], good[:-1], good + b"x", b"x" + good[1:], bytes(len(good))):
        path.write_bytes(damage)
        await starts_from_nothing()
    for place in range(0, len(good), len(good) // 40):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        await starts_from_nothing()
    path.unlink()
    await starts_from_nothing()
    other = tmp_path / "other"
    async with opened_house(other) as stranger:
        await business(stranger)
    shutil.copy(other / "journal.snapshot", path)
    await starts_from_nothing()
    with monkeypatch.context() as upgraded:
        upgraded.setattr(snapshot, "build", lambda: bytes(32))
        await starts_from_nothing()
    await starts_from_nothing()
    path.unlink()
    path.mkdir()
    await starts_from_nothing()


async def test_another_network_file_folds_everything(tmp_path: Path, folded: list[int]) -> None:
    async with opened_house(tmp_path) as house:
        await business(house)
    folded.clear()
    async with opened_house(tmp_path, node=house.node, welcome_limit=2_000):
        assert folded[0] == 1


async def test_a_snapshot_of_a_history_that_was_given_up_is_not_used(tmp_path: Path, folded: list[int]) -> None:
    home, old = tmp_path / "home", tmp_path / "old"
    async with opened_house(home) as house:
        await business(house)
    shutil.copytree(home, old)
    for trades in (1, 12):
        async with opened_house(home, node=house.node) as house:
            house.agent = await house.hosted()
            await business(house, 8)
        for file in old.glob("journal.db*"):
            shutil.copy(file, home / file.name)
        folded.clear()
        async with opened_house(home, node=house.node, accept_rollback=True) as house:
            assert folded[0] == 1
            same(house.ledger)
            house.agent = await house.hosted()
            await business(house, trades)
            same(house.ledger)


async def test_an_older_snapshot_means_a_longer_tail(tmp_path: Path, folded: list[int]) -> None:
    async with opened_house(tmp_path) as house:
        await business(house)
        end = house.ledger.seq
    shutil.copy(tmp_path / "journal.snapshot", tmp_path / "older")
    async with opened_house(tmp_path, node=house.node) as house:
        house.agent = await house.hosted()
        await business(house)
    shutil.copy(tmp_path / "older", tmp_path / "journal.snapshot")
    folded.clear()
    async with opened_house(tmp_path, node=house.node) as house:
        assert folded[0] == end + 1
        same(house.ledger)


async def test_what_the_disk_lost_is_in_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened_house(tmp_path) as house:
        await business(house, 4)
        disk = Disk(house.ledger, monkeypatch)
        for _ in range(4):
            disk.full = True
            lost = grant_line(house.ledger, house.node, SigningKey.generate().public_key)
            assert lost is not None
            with pytest.raises(StorageUnavailable):
                await lost
            disk.full = False
            same(house.ledger)
            await business(house, 2)
            same(house.ledger)
    async with opened_house(tmp_path, node=house.node) as again:
        same(again.ledger)


async def test_a_snapshot_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal.snapshot.tmp").mkdir()
    async with opened_house(tmp_path) as house:
        await business(house)
    assert not (tmp_path / "journal.snapshot").exists()
    async with opened_house(tmp_path, node=house.node) as again:
        same(again.ledger)


async def test_a_snapshot_is_private_and_holds_only_what_a_state_is_made_of(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        await business(house)
        file = SnapshotFile(tmp_path / "journal.snapshot", journal_key(house.node), house.ledger.network)
    assert os.stat(tmp_path / "journal.snapshot").st_mode & 0o077 == 0
    found = file.read(house.ledger._journal)
    assert found is not None
    for stranger in (
        b"cos\nsystem\n.",
        b"cbuiltins\neval\n.",
        b"ctirami.node.node\nNode\n.",
        b"ctirami.ledger.tip\nos\n.",
    ):
        with pytest.raises(pickle.UnpicklingError):
            snapshot._Reader(stranger, [], house.ledger.network, house.ledger._journal).load()
