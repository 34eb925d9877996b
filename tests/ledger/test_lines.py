"""Welcome lines: what the network file says is what a newcomer gets, and how many of them."""

from pathlib import Path

import msgspec
import pytest

from tests.market.conftest import House, opened_house
from tirami.core.errors import CounterLost, InsufficientFunds, KillSwitchActive, QueueFull
from tirami.core.keys import SigningKey, journal_key, local_user_key
from tirami.core.units import Trm
from tirami.ledger import Ledger, grant_line
from tirami.ledger.state import QUOTA
from tirami.proto import Grant, NetworkFile
from tirami.testing.clock import ManualClock

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


def newest_grant(house: House) -> Grant:
    body = house.ledger.state.records[-1].body
    assert isinstance(body, Grant)
    return body


@pytest.mark.parametrize("limit", [1, 700, 2_000])
async def test_welcome_limit_is_the_size_of_a_line(tmp_path: Path, limit: int) -> None:
    async with opened_house(tmp_path, welcome_limit=limit) as house:
        assert newest_grant(house).limit == limit
        assert house.ledger.balance(house.agent.key).effective == limit
        house.ledger.gate.check(house.agent.key, Trm(limit))
        with pytest.raises(InsufficientFunds):
            house.ledger.gate.check(house.agent.key, Trm(limit + 1))


async def test_a_welcome_limit_of_nothing_grants_nothing(tmp_path: Path) -> None:
    async with opened_house(tmp_path, welcome_limit=0) as house:
        assert house.ledger.state.log.size == 0
        assert house.ledger.balance(house.agent.key).effective == 0


@pytest.mark.parametrize("hours", [1, 72])
async def test_welcome_hours_is_how_long_a_line_is_honoured(tmp_path: Path, hours: int) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock, welcome_hours=hours) as house:
        assert newest_grant(house).due_ms == clock.now_ms() + hours * 3_600_000
        clock.advance(hours * HOUR_S - 0.001)
        assert house.ledger.balance(house.agent.key).effective == 1_000
        clock.advance(0.001)
        assert house.ledger.balance(house.agent.key).effective == 0
        with pytest.raises(InsufficientFunds):
            house.ledger.gate.check(house.agent.key, Trm(1))


async def test_a_line_that_is_due_at_once_is_worth_nothing(tmp_path: Path) -> None:
    async with opened_house(tmp_path, welcome_hours=0) as house:
        assert house.ledger.balance(house.agent.key).effective == 0


@pytest.mark.parametrize("lines", [0, 1, 3])
async def test_daily_lines_is_how_many_a_day(tmp_path: Path, lines: int) -> None:
    node, clock = SigningKey.generate(), ManualClock()
    regtest = NetworkFile.regtest(node.public_key)
    issuer = msgspec.structs.replace(regtest.issuers[0], daily_lines=lines)
    ledger = Ledger.open(
        tmp_path / "journal.db",
        network=msgspec.structs.replace(regtest, issuers=(issuer,)),
        node=node,
        local_user=local_user_key(node).public_key,
        clock=clock,
        journal_key=journal_key(node),
    )
    await ledger.start(lambda count: bytes(count))
    for _ in range(2):
        for _ in range(lines):
            granted = grant_line(ledger, node, SigningKey.generate().public_key)
            assert granted is not None
            await granted
        with pytest.raises(QueueFull) as full:
            grant_line(ledger, node, SigningKey.generate().public_key)
        assert full.value.retry_after is not None
        assert clock.now_ms() // 86_400_000 < (clock.now_ms() + full.value.retry_after * 1000) // 86_400_000
        clock.advance(full.value.retry_after)
    assert ledger.state.book.imbalance() == 0
    await ledger.close()


async def test_a_key_has_one_line_in_its_life(house: House) -> None:
    assert grant_line(house.ledger, house.node, house.agent.key) is None


async def test_no_line_is_granted_under_a_thrown_switch(house: House) -> None:
    await house.ledger.set_kill(True, "", "nobody")
    with pytest.raises(KillSwitchActive):
        grant_line(house.ledger, house.node, SigningKey.generate().public_key)


async def test_no_line_is_granted_while_the_counter_is_lost(house: House) -> None:
    ledger, size = house.ledger, house.ledger.state.log.size
    quota, now = QUOTA + house.node.public_key, ledger.now()
    ledger.state.lineage.elsewhere(quota, ledger.state.holds.incarnation, 99, now)
    with pytest.raises(CounterLost):
        grant_line(ledger, house.node, SigningKey.generate().public_key)
    await ledger.durable()
    assert ledger.state.log.size == size
