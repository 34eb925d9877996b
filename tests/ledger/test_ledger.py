"""The ledger over its files: rollbacks accepted, network files changed, what a payer signed before and after."""

import shutil
from pathlib import Path

import msgspec
import pytest

from tests.ledger.crash import copied
from tests.ledger.disk import Disk
from tests.ledger.promises import Promises
from tests.market.conftest import House, opened_house
from tests.market.test_inference import order, serve
from tirami.core.errors import JournalRollback, NetworkFileError, StorageUnavailable
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.ledger import Ledger, transfer, transferable
from tirami.ledger.entries import NodeStarted, PriceObserved
from tirami.proto import Grant, NetworkFile
from tirami.testing.clock import ManualClock

AGENT = SigningKey.generate()
"""One payer in all histories, so that what it signs in one can contradict what it signs in another."""


def started(house: House) -> NodeStarted:
    fact = house.ledger.state.settings.started
    assert fact is not None
    return fact


async def business(house: House, promises: Promises) -> None:
    """Sessions that end, one that is left open with a voucher, a transfer; all by the same payer."""
    payer = await house.hosted(key=AGENT)
    for length in (3, 5):
        house.engine.length = length
        await serve(house, payer=payer, max_tokens=8)
    house.engine.length = 100
    ticket = await house.market.begin_inference(await order(house, payer, 90))
    async with house.market.execute(ticket, payer.key, streamed=True) as session:
        for _ in range(80):
            await anext(session)
        transfer(house.ledger, house.node, payer.key, transferable(house.ledger, house.node.public_key))
        await serve(house, payer=payer, max_tokens=8, stop_after=4)
        promises.read(house.ledger)
    promises.read(house.ledger)


async def refused(home: Path, house: House, clock: ManualClock) -> bool:
    try:
        async with opened_house(home, node=house.node, clock=clock):
            return False
    except JournalRollback:
        return True


@pytest.mark.parametrize("gone", ["newest entries", "database", "tip"])
async def test_after_an_accepted_rollback_nobody_contradicts_itself(tmp_path: Path, gone: str) -> None:
    """The clock stands still: only the incarnation keeps the numbers of both histories apart."""
    clock, promises, home = ManualClock(), Promises(), tmp_path / "home"
    async with opened_house(home, clock=clock) as house:
        await business(house, promises)
        former = started(house)
    old = copied(home, tmp_path / "old")
    async with opened_house(home, node=house.node, clock=clock) as house:
        await business(house, promises)
        assert started(house).incarnation == former.incarnation
    match gone:
        case "newest entries":
            for file in old.glob("journal.db*"):
                shutil.copy(file, home / file.name)
        case "database":
            for file in home.glob("journal.db*"):
                file.unlink()
        case "tip":
            shutil.copytree(old, home, dirs_exist_ok=True)
            (home / "journal.tip").unlink()
    assert await refused(home, house, clock)
    seen = [former]
    for _ in range(2):
        async with opened_house(home, node=house.node, clock=clock, accept_rollback=True) as house:
            await business(house, promises)
            seen.append(started(house))
    _, accepted, later = seen
    assert accepted.log_id != former.log_id
    assert accepted.incarnation > former.incarnation
    assert (later.log_id, later.incarnation) == (accepted.log_id, accepted.incarnation), "nothing was rolled back again"
    assert promises.count > 40
    assert not promises.verdicts()
    assert not await refused(home, house, clock), "accepted once, it is the journal"


async def test_the_oracle_convicts_a_payer_that_forgets(tmp_path: Path) -> None:
    """The same as above with incarnation and floor taken back: the tests above see what they should see."""
    clock, promises = ManualClock(), Promises()
    async with opened_house(tmp_path / "one", clock=clock) as house:
        await business(house, promises)
    assert not promises.verdicts()
    async with opened_house(tmp_path / "two", clock=clock) as other:
        await business(other, promises)
    assert promises.verdicts()


async def test_permission_to_roll_back_changes_nothing_by_itself(tmp_path: Path) -> None:
    starts, promises = [], Promises()
    node = SigningKey.generate()
    for _ in range(3):
        async with opened_house(tmp_path, node=node, accept_rollback=True) as house:
            starts.append(started(house))
            await business(house, promises)
    assert len({(start.log_id, start.incarnation) for start in starts}) == 1
    assert not promises.verdicts()


async def test_a_second_rollback_is_another_incarnation(tmp_path: Path) -> None:
    clock, promises, home = ManualClock(), Promises(), tmp_path / "home"
    async with opened_house(home, clock=clock) as house:
        await business(house, promises)
        starts = [started(house)]
    old = copied(home, tmp_path / "old")
    async with opened_house(home, node=house.node, clock=clock) as house:
        await business(house, promises)
    for _ in range(3):
        for file in old.glob("journal.db*"):
            shutil.copy(file, home / file.name)
        clock.advance(1)
        async with opened_house(home, node=house.node, clock=clock, accept_rollback=True) as house:
            await business(house, promises)
            starts.append(started(house))
    assert len({start.log_id for start in starts}) == 4
    assert [start.incarnation for start in starts] == sorted({start.incarnation for start in starts})
    assert not promises.verdicts()


# --- network files ---------------------------------------------------------------------------------------------------


def reopened(home: Path, node: SigningKey, network: NetworkFile) -> Ledger:
    return Ledger.open(
        home / "journal.db",
        network=network,
        node=node,
        local_user=local_user_key(node).public_key,
        clock=ManualClock(),
        journal_key=journal_key(node),
    )


async def test_a_network_file_that_no_longer_admits_a_record_refuses_the_start(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        node, regtest = house.node, NetworkFile.regtest(house.node.public_key)
        await serve(house)
        grant = next(record for record in house.ledger.state.records if isinstance(record.body, Grant))
    smaller = msgspec.structs.replace(regtest.parameters, welcome_limit=999)
    for network in (
        msgspec.structs.replace(regtest, parameters=smaller),
        msgspec.structs.replace(regtest, issuers=()),
        msgspec.structs.replace(regtest, id="elsewhere"),
    ):
        with pytest.raises(NetworkFileError) as refused:
            reopened(tmp_path, node, network)
        assert refused.value.param == "network.file"
        assert refused.value.data["entry"] == grant.seq
        assert f"entry {grant.seq}" in refused.value.message
    larger = msgspec.structs.replace(regtest.parameters, welcome_limit=1001)
    ledger = reopened(tmp_path, node, msgspec.structs.replace(regtest, parameters=larger))
    await ledger.close()


async def test_a_clock_set_back_stands_still_until_it_has_caught_up(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        clock.advance(60)
        before = house.ledger.now()
        assert before == clock.now_ms()
        clock.wall_ms -= 3_600_000
        assert house.ledger.now() == before
        await house.hosted()
        assert house.ledger._journal.last_ms == before
        clock.advance(3_599)
        assert house.ledger.now() == before
        clock.advance(2)
        assert house.ledger.now() == before + 1_000
    clock.wall_ms -= 3_600_000
    async with opened_house(tmp_path, clock=clock, node=house.node) as again:
        assert before <= again.ledger.now() == again.ledger._journal.last_ms, "no restart makes it older than its book"
        assert again.ledger.now() > clock.now_ms()


async def test_a_journal_that_accepts_nothing_is_not_called_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back to what is durable failed: that there is room again mends nothing."""

    def fails(*, again: bool) -> None:
        raise RuntimeError("the disk cannot be read either")

    async with opened_house(tmp_path) as house:
        ledger, disk = house.ledger, Disk(house.ledger, monkeypatch)
        monkeypatch.setattr(ledger, "_fold", fails)
        assert ledger.writable
        disk.full = True
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await ledger.record_facts(PriceObserved(1))
            disk.full = False
        assert not ledger.writable
