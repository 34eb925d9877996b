"""Usage: running sums that equal a count from nothing, bounded, and the same after a restart."""

from pathlib import Path

import msgspec

from tests.market.conftest import House, opened_house
from tests.market.test_inference import serve
from tests.proto.samples import TRADE
from tirami.ledger import LOCAL, Payer
from tirami.ledger.usage import KEPT_DAYS, Usage, UsageSums
from tirami.proto import Trade
from tirami.testing import ManualClock

DAY_MS = 86_400_000


def counted(house: House, account: bytes, day: int) -> tuple[UsageSums, UsageSums]:
    """What the trades themselves say."""
    spent, earned = UsageSums(), UsageSums()
    for stored in house.ledger.state.newest_first(None, None):
        trade = stored.body
        if isinstance(trade, Trade) and stored.at_ms // DAY_MS == day:
            if trade.payer == account:
                spent.add(trade)
            if trade.provider == account and trade.scope != LOCAL:
                earned.add(trade)
    return spent, earned


async def test_every_day_equals_a_count_of_its_trades_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        other = await house.hosted()
        for length in (3, 5, 2):
            house.engine.length = length
            await serve(house, payer=house.agent, max_tokens=8)
            await serve(house, payer=other, max_tokens=8)
            clock.advance(DAY_MS / 1000 * 0.6)
        check(house, house.agent, other)
        before = msgspec.to_builtins(house.ledger.state.usage)
    async with opened_house(tmp_path, clock=clock, node=house.node) as again:
        assert msgspec.to_builtins(again.ledger.state.usage) == before


def check(house: House, *payers: Payer) -> None:
    usage = house.ledger.state.usage
    keys = [*(payer.key for payer in payers), house.node.public_key]
    days = {day for key in keys for day, _ in usage.of(key, 0)}
    assert len(days) >= 2
    for key in keys:
        found = dict(usage.of(key, 0))
        assert list(found) == sorted(found)
        for day in days:
            if day in found:
                assert (found[day].spent, found[day].earned) == counted(house, key, day)
    assert set(usage.days) == set(keys), "strangers are not counted"


def test_old_days_give_way() -> None:
    usage = Usage()
    for day in range(KEPT_DAYS + 50):
        usage.spend(b"a", day * DAY_MS + 5, TRADE)
    found = usage.of(b"a", 0)
    assert [day for day, _ in found] == list(range(50, KEPT_DAYS + 50))
    assert [day for day, _ in usage.of(b"a", KEPT_DAYS + 48)] == [KEPT_DAYS + 48, KEPT_DAYS + 49]
    assert usage.of(b"nobody", 0) == []
