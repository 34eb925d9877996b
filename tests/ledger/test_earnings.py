"""Earnings: rows that add up, bounded whatever strangers do."""

from msgspec.structs import replace

from tests.proto.samples import TRADE
from tirami.ledger.earnings import OTHERS, ROWS, Earnings
from tirami.ledger.usage import KEPT_DAYS

DAY_MS = 86_400_000


def test_rows_are_of_a_payer_and_a_model() -> None:
    earnings = Earnings()
    for payer, model in ((b"a", b"x"), (b"a", b"x"), (b"a", b"y"), (b"b", b"x")):
        earnings.earn(5 * DAY_MS + 1, replace(TRADE, payer=payer * 32, model_digest=model * 32, amount=7))
    found = {(source[0][:1], source[1][:1]): (sums.requests, sums.trm) for _, source, sums in earnings.since(5)}
    assert found == {(b"a", b"x"): (2, 14), (b"a", b"y"): (1, 7), (b"b", b"x"): (1, 7)}
    assert list(earnings.since(6)) == []


def test_many_strangers_share_a_row_and_nothing_is_lost() -> None:
    earnings = Earnings()
    for number in range(3 * ROWS):
        earnings.earn(DAY_MS, replace(TRADE, payer=number.to_bytes(32), amount=1))
    rows = earnings.days[1]
    assert len(rows) == ROWS + 1
    assert rows[OTHERS].trm == 2 * ROWS
    assert sum(sums.trm for sums in rows.values()) == 3 * ROWS


def test_old_days_give_way() -> None:
    earnings = Earnings()
    for day in range(KEPT_DAYS + 3):
        earnings.earn(day * DAY_MS, TRADE)
    assert next(iter(earnings.days)) == 3 and len(earnings.days) == KEPT_DAYS
