"""Payers' own books: the sliding hour to the millisecond, ceilings and what replaces them."""

import msgspec
from msgspec.structs import replace

from tirami.core.units import Trm, UnixMs
from tirami.ledger import HoldCaptured, HoldOpened, HoldReleased, Holds
from tirami.ledger.entries import EntryKind, HoldOwed, decode_content
from tirami.ledger.spends import HOUR_MS

PAYER = b"p" * 32


def opened(number: int, ceiling: int) -> HoldOpened:
    return HoldOpened(number.to_bytes(16), PAYER, 0, 0, number, ceiling, "inference", 10**15, "req", b"", b"", b"", b"")


def captured(number: int, amount: int) -> HoldCaptured:
    return HoldCaptured(number.to_bytes(16), b"", amount)


def test_a_session_counts_at_its_ceiling_and_then_at_its_price() -> None:
    holds = Holds()
    holds.apply(opened(1, 100), UnixMs(0))
    holds.apply(opened(2, 50), UnixMs(10))
    books = holds.books(PAYER)
    assert (books.held, books.settled, books.spends.total, books.lifetime) == (150, 0, 150, 150)
    assert (holds.held(PAYER), holds.held(b"q" * 32)) == (150, 0)
    assert [(entry.number, entry.ceiling) for entry in books.open_list()] == [(1, 100), (2, 50)]
    holds.apply(captured(1, 30), UnixMs(20))
    assert (books.held, books.settled, books.spends.total, books.lifetime) == (50, 30, 80, 80)
    holds.apply(HoldReleased((2).to_bytes(16), "cancelled"), UnixMs(30))
    assert (books.held, books.settled, books.spends.total, books.lifetime) == (0, 30, 30, 30)
    assert not holds.open


def test_another_try_is_no_further_spend_a_minute() -> None:
    holds = Holds()
    for number, again in enumerate([False, True, True, False], 1):
        holds.apply(replace(opened(number, 10), again=again), UnixMs(number))
        holds.apply(HoldReleased(number.to_bytes(16), "failed"), UnixMs(number))
    books = holds.books(PAYER)
    assert books.velocity.count(5) == 2, "what was released stays counted, once a request"
    assert (books.last_number, len(books.spends)) == (4, 4)


def test_a_hold_of_an_older_node_is_a_first_try_without_a_permit() -> None:
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(opened(1, 10)))[:-2]
    assert decode_content(EntryKind.HOLD, msgspec.msgpack.encode(old)) == opened(1, 10)


def test_what_is_owed_counts_for_ever_although_no_trade_has_come() -> None:
    holds = Holds()
    holds.apply(opened(1, 100), UnixMs(0))
    holds.apply(HoldOwed((1).to_bytes(16), 30), UnixMs(10))
    books = holds.books(PAYER)
    assert (books.held, books.settled, books.lifetime) == (0, 30, 30)
    assert not holds.open


def test_a_capture_counts_in_the_hour_of_its_hold() -> None:
    holds = Holds()
    holds.apply(opened(1, 100), UnixMs(0))
    books = holds.books(PAYER)
    assert books.spent_in_hour(HOUR_MS) == 0
    holds.apply(captured(1, 60), UnixMs(HOUR_MS))
    assert (books.spent_in_hour(HOUR_MS), books.lifetime) == (0, 60)


def test_numbers_rise_and_start_at_the_floor() -> None:
    holds = Holds()
    holds.start(1_000, 3)
    assert (holds.next_number(PAYER), holds.incarnation) == (1_000, 3)
    holds.apply(opened(1_000, 1), UnixMs(0))
    holds.debited(PAYER, 1_001, Trm(5), UnixMs(1))
    assert holds.next_number(PAYER) == 1_002
    holds.start(500, 3)
    assert holds.next_number(b"q" * 32) == 1_000, "a floor never sinks"
    assert (holds.books(PAYER).settled, holds.books(PAYER).spends.total) == (5, 6)
