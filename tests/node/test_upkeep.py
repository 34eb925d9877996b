"""Upkeep: every job at once at the start and in its own time after; none stops the others."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.market.conftest import House, opened_house
from tests.market.test_inference import order
from tests.waiting import until
from tirami.core.errors import SafetyUnknown
from tirami.core.units import Trm
from tirami.ledger import key_account
from tirami.market import WaitingRoom
from tirami.node import upkeep as upkeep_module
from tirami.node.upkeep import HOLDS_EVERY_S, WATCH_EVERY_S, Upkeep
from tirami.testing.clock import ManualClock


@dataclass
class Kept:
    """A house with its upkeep running on a clock that stands until it is moved."""

    house: House
    clock: ManualClock
    running: "asyncio.Task[None]"
    live: set[bytes]
    """Claims of running sessions."""

    async def round(self) -> None:
        """Until upkeep has looked at its clock, done what was due and looked again."""
        for _ in range(2):
            self.house.market.load._at_ms = None
            await until(lambda: self.house.market.load._at_ms is not None)
        await self.house.ledger.durable()

    async def abandon(self) -> None:
        """Open a hold whose owner forgets it."""
        ticket = await self.house.market.begin_inference(await order(self.house, max_tokens=5))
        self.house.market._tickets.forget(ticket.hold_id)


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    monkeypatch.setattr(upkeep_module, "LOAD_EVERY_S", 0)
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        live: set[bytes] = set()
        room = WaitingRoom(1, 1, clock)
        upkeep = Upkeep(house.ledger, house.heads, house.market, room, clock, claims=lambda: live)
        running = asyncio.create_task(upkeep.run())
        yield Kept(house, clock, running, live)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])


async def test_the_book_is_checked_at_once(kept: Kept) -> None:
    await kept.round()
    house = kept.house
    assert house.ledger.checked_ms == kept.clock.now_ms()
    assert house.ledger.state.settings.price is not None
    assert house.heads.published is not None
    assert house.heads.published.head.size == house.ledger.state.log.size


async def test_and_again_every_minute(kept: Kept) -> None:
    await kept.round()
    began = kept.house.ledger.checked_ms
    kept.clock.advance(WATCH_EVERY_S - 1)
    await kept.round()
    assert kept.house.ledger.checked_ms == began
    kept.clock.advance(1)
    await kept.round()
    assert kept.house.ledger.checked_ms == began + WATCH_EVERY_S * 1000


async def test_a_book_out_of_balance_stops_all_spending_at_once(kept: Kept) -> None:
    await kept.round()
    house = kept.house
    house.ledger.gate.check(house.agent.key, Trm(1))
    house.ledger.state.book._income[key_account(house.agent.key)] = Trm(1)
    kept.clock.advance(WATCH_EVERY_S)
    await kept.round()
    with pytest.raises(SafetyUnknown, match="out of balance by 1 TRM"):
        house.ledger.gate.check(house.agent.key, Trm(1))


async def test_an_abandoned_hold_ends_and_a_live_one_stays(kept: Kept) -> None:
    house = kept.house
    ticket = await house.market.begin_inference(await order(house, max_tokens=5))
    await kept.abandon()
    kept.clock.advance(601)
    await kept.round()
    assert set(house.ledger.state.holds.open) == {ticket.hold_id}


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyError("missing"), AssertionError()], ids=repr)
@pytest.mark.parametrize("job", ["expire_holds", "expire_claims", "check_balance", "record_facts"])
async def test_a_job_that_raises_comes_again_and_stops_no_other(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, job: str, error: Exception
) -> None:
    await kept.round()
    calls: list[str] = []

    def fail(*_: object) -> None:
        calls.append(job)
        raise error

    with monkeypatch.context() as broken:
        ledger = kept.house.ledger
        owners = {"expire_holds": ledger.payables, "expire_claims": ledger.receivables}
        broken.setattr(owners.get(job, ledger), job, fail)
        for rounds in (1, 2):
            kept.clock.advance(WATCH_EVERY_S)
            await kept.round()
            assert len(calls) == rounds
    await kept.abandon()
    kept.clock.advance(601)
    await kept.round()
    assert not kept.house.ledger.state.holds.open
    assert kept.house.ledger.checked_ms == kept.clock.now_ms()


async def test_claims_of_running_sessions_are_left_alone(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.round()
    left: list[Collection[bytes]] = []

    async def expire(live: Collection[bytes]) -> int:
        left.append(live)
        return 0

    monkeypatch.setattr(kept.house.ledger.receivables, "expire_claims", expire)
    kept.live.add(b"running")
    kept.clock.advance(HOLDS_EVERY_S)
    await kept.round()
    assert left == [{b"running"}]


async def test_a_full_disk_delays_what_must_be_written(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.round()
    house = kept.house
    await kept.abandon()
    disk = Disk(house.ledger, monkeypatch)
    disk.full = True
    kept.clock.advance(601)
    await kept.round()
    assert len(house.ledger.state.holds.open) == 1
    disk.full = False
    kept.clock.advance(HOLDS_EVERY_S)
    await kept.round()
    assert not house.ledger.state.holds.open
