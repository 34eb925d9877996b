"""Settlement statements: windows miss nothing and repeat nothing, pages add up, each verifies, steps stay small."""

from pathlib import Path

import pytest

from tests.market.conftest import House, opened_house
from tests.market.test_inference import serve
from tirami.core.keys import PublicKey
from tirami.core.units import Trm, UnixMs
from tirami.ledger import MerkleLog, StatementRun, StatementWindow, transfer
from tirami.ledger import statements as module
from tirami.proto import Statement, StatementTrade, Trade, decode, leaf
from tirami.proto.statement import csv_end, csv_header, csv_row
from tirami.testing import ManualClock
from tirami.verify import RunningRoot, leaf_hash, verify_statement

FOREVER = UnixMs(2**53)


async def trading(house: House, clock: ManualClock, count: int) -> None:
    other = await house.hosted()
    for number in range(count):
        house.engine.length = number % 5 + 1
        await serve(house, payer=(house.agent, other)[number % 2], max_tokens=8)
        if number % 3 == 0:
            _, booked = transfer(house.ledger, house.node, other.key, Trm(1))
            await booked
        clock.advance(1)


def statement(
    house: House, since: int = 0, until: int = FOREVER, account: PublicKey | None = None, limit: int = 10**6,
    cursor: int = 0,
) -> tuple[Statement, list[StatementTrade], int | None]:  # fmt: skip
    window = StatementWindow.of(house.ledger.state, UnixMs(since), UnixMs(until), cursor)
    run = StatementRun(house.ledger, window, account, limit)
    rows = [row for group in run for row in group]
    signed = run.sign(house.node)
    text = csv_header() + "".join(map(csv_row, rows)) + csv_end(signed.body, signed.signature, run.next_cursor)
    verified = verify_statement(text.encode(), frozenset({house.node.public_key}))
    assert verified.statement == decode(Statement, signed.body)
    return verified.statement, rows, run.next_cursor


async def test_windows_and_pages_partition_the_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        began = house.ledger.now()
        await trading(house, clock, 30)
        trades = [s for s in house.ledger.state.newest_first(None, None) if isinstance(s.body, Trade)][::-1]
        whole, rows, following = statement(house)
        assert [row.id for row in rows] == [stored.record_id.hex() for stored in trades]
        assert (whole.trades, whole.volume, following) == (30, sum(s.body.amount for s in trades), None)  # type: ignore[union-attr]
        tree = MerkleLog()
        for stored in trades:
            tree.append(leaf(stored.envelope))
        assert whole.root == tree.root()
        cuts = [began, began + 3_000, began + 3_001, began + 11_500, began + 60_000]
        parts = [statement(house, a, b)[1] for a, b in zip(cuts, cuts[1:], strict=False)]
        assert [row for part in parts for row in part] == rows
        for limit in (1, 4, 29, 30, 31):
            found, cursor = [], 0
            while True:
                page, some, after = statement(house, limit=limit, cursor=cursor)
                assert len(some) <= limit and page.first == cursor
                found += some
                if after is None:
                    break
                cursor = after
            assert found == rows
        mine = statement(house, account=house.agent.key)
        assert [row.id for row in mine[1]] == [row.id for row in rows if row.consumer == house.agent.key.hex()]
        assert statement(house, account=PublicKey(b"\x01" * 32))[0].trades == 0
        assert statement(house, since=FOREVER - 1)[0].trades == 0


async def test_one_step_looks_at_a_bounded_number_of_records(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        await trading(house, clock, module.CHUNK + 20)
        window = StatementWindow.of(house.ledger.state, UnixMs(0), FOREVER)
        groups = list(StatementRun(house.ledger, window, None, 10**6))
        assert len(groups) == -(-house.ledger.state.log.size // module.CHUNK)
        assert all(len(group) <= module.CHUNK for group in groups)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 100])
def test_the_running_root_is_the_root(size: int) -> None:
    running, tree = RunningRoot(), MerkleLog()
    for number in range(size):
        running.add(leaf_hash(bytes([number])))
        tree.append(bytes([number]))
    assert running.root() == tree.root()
