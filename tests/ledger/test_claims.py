"""Claims: what a payer paid and did not pay in a day, and that memory of it is bounded."""

import pytest

from tirami.core.units import DAY_MS, UnixMs
from tirami.ledger import claims as module
from tirami.ledger.claims import Claims
from tirami.ledger.entries import ClaimDropped, ClaimOpened, ClaimSettled, ClaimVouched


def session(claims: Claims, number: int, payer: bytes, at_ms: int, paid: int = 0, unpaid: int = 0) -> None:
    """One session from its beginning to its end."""
    claim = number.to_bytes(16, "big")
    claims.apply(ClaimOpened(claim, payer, 0, number, 100, b"", b"", b"", b""), UnixMs(at_ms))
    if paid:
        claims.apply(ClaimVouched(claim, paid, b"", b""), UnixMs(at_ms))
        claims.apply(ClaimSettled(claim, bytes(32), unpaid), UnixMs(at_ms))
    else:
        claims.apply(ClaimDropped(claim, "cancelled", unpaid), UnixMs(at_ms))


def test_what_is_unpaid_counts_for_a_day_beside_what_is_paid() -> None:
    claims, payer = Claims(), bytes(32)
    session(claims, 1, payer, 1, unpaid=13)
    session(claims, 2, payer, 2, paid=20, unpaid=5)
    assert claims.within_day(payer, UnixMs(DAY_MS)) == 38
    assert claims.within_day(payer, UnixMs(1 + DAY_MS)) == 25
    assert [(key, one.unpaid_since(0)) for key, one in claims.debtors(UnixMs(DAY_MS))] == [(payer, 18)]
    assert list(claims.debtors(UnixMs(2 + DAY_MS))) == []


def test_who_only_paid_is_no_debtor() -> None:
    claims, payer = Claims(), bytes(32)
    session(claims, 1, payer, 1, paid=20)
    assert list(claims.debtors(UnixMs(2))) == []
    assert claims.within_day(payer, UnixMs(2)) == 20


def test_entries_of_older_nodes_left_nothing_unpaid() -> None:
    assert (ClaimDropped(bytes(16), "stop").unpaid, ClaimSettled(bytes(16), bytes(32)).unpaid) == (0, 0)


def test_payers_are_forgotten_after_a_day() -> None:
    claims = Claims()
    for number in range(100):
        session(claims, number, number.to_bytes(32, "big"), number, unpaid=1)
    for number in range(100, 200):
        session(claims, number, bytes(31) + b"\xff", 2 * DAY_MS + number, unpaid=1)
    assert len(claims._debtors) == 1


def test_of_a_flood_of_payers_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBTORS", 10)
    claims = Claims()
    for number in range(100):
        session(claims, number, number.to_bytes(32, "big"), number, unpaid=1)
    assert len(claims._debtors) == 10
    assert claims.debtor((99).to_bytes(32, "big")).unpaid_since(0) == 1
    assert claims.debtor(bytes(32)).unpaid_since(0) == 0


def test_who_has_a_session_open_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBTORS", 1)
    claims, payer = Claims(), b"p" * 32
    claims.apply(ClaimOpened(bytes(16), payer, 0, 1, 100, b"", b"", b"", b""), UnixMs(1))
    for number in range(1, 20):
        session(claims, number, number.to_bytes(32, "big"), number, unpaid=1)
    assert [claim.opened.ceiling for claim in claims.of(payer)] == [100]
    claims.apply(ClaimDropped(bytes(16), "cancelled", 7), UnixMs(30))
    assert claims.debtor(payer).unpaid_since(0) == 7
