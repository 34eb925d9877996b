"""The last 24 hours: read once, forgotten in time, read anew after a rollback, never without bound."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ledger.disk import Disk
from tests.market.conftest import House, opened_house
from tests.market.test_inference import serve
from tirami.core.errors import StorageUnavailable
from tirami.node import activity
from tirami.node.activity import Activity
from tirami.testing.clock import ManualClock

HOUR_S = 3_600


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def house(tmp_path: Path, clock: ManualClock) -> AsyncIterator[House]:
    async with opened_house(tmp_path, clock=clock) as result:
        yield result


def of(house: House) -> Activity:
    return Activity(house.ledger)


def volume(seen: Activity) -> int:
    """TRM of the trades it knows."""
    return sum(trade.amount for trade in seen._read())


async def test_without_trades_there_is_no_price_and_nobody(house: House) -> None:
    seen = of(house)
    assert (seen.price_median(), seen.parties(10), volume(seen)) == (None, [], 0)


async def test_trades_are_counted_once_and_forgotten_after_a_day(house: House, clock: ManualClock) -> None:
    seen = of(house)
    house.engine.length = 5
    for expected in (5, 10, 15):
        await serve(house)
        assert (volume(seen), volume(seen)) == (expected, expected)
        clock.advance(8 * HOUR_S)
    assert volume(seen) == 10, "the first is a day old"
    assert set(seen.parties(10)) == {house.agent.key, house.node.public_key}
    clock.advance(17 * HOUR_S)
    assert (seen.parties(10), volume(seen), seen.price_median()) == ([], 0, None)


async def test_the_median_is_that_of_the_trades(house: House) -> None:
    seen, ratios = of(house), []
    for length in (3, 400, 50):
        house.engine.length = length
        trade = (await serve(house)).trade
        assert trade is not None
        ratios.append(trade.amount * 10**9 / trade.flop)
    assert seen.price_median() == sorted(ratios)[1]


async def test_an_activity_that_was_not_there_finds_the_same(house: House) -> None:
    early = of(house)
    for _ in range(4):
        await serve(house)
        early.price_median()
    late = of(house)
    assert (volume(late), late.price_median()) == (volume(early), early.price_median())


async def test_one_reading_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "AT_ONCE", 3)
    house.engine.length = 5
    for _ in range(6):
        await serve(house)
    seen = of(house)
    assert volume(seen) == 15, "the newest three"
    await serve(house)
    assert volume(seen) == 20


async def test_what_a_full_disk_took_back_is_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.engine.length = 5
    seen, disk = of(house), Disk(house.ledger, monkeypatch)
    await serve(house, max_tokens=5)
    disk.refuse = 2 * disk.groups  # the one with the trade: an answer is served like the one before
    lost, most = asyncio.create_task(serve(house, max_tokens=5)), 0
    while not lost.done():
        most = max(most, volume(seen))
        await asyncio.sleep(0)
    assert isinstance(lost.exception(), StorageUnavailable)
    assert most == 10, "it was seen before the disk refused it"
    await house.ledger.durable()
    assert volume(seen) == 5
    await serve(house, max_tokens=5)
    assert volume(seen) == house.ledger.state.network_totals.volume
