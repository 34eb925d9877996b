"""The book against the oracle of PROTOCOL.md: any order, any repetition, liars included."""

import random as random_module
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.oracle import fixpoint
from tirami.core.units import Trm
from tirami.ledger import LINES, Account, AccountKind, Book, Debit, Demand, key_account

KEYS = [bytes([k]) * 32 for k in range(4)]
CREDIT = 50


def book() -> Book:
    def allowance(account: Account) -> Trm:
        return Trm(10_000 if account.kind is AccountKind.QUOTA else 0)

    return Book(allowance)


def identity(*parts: object) -> bytes:
    return sha256(repr(parts).encode()).digest()


def grant(to: bytes, limit: int, number: int = 1) -> tuple[bytes, Demand]:
    name = identity("grant", to, limit, number)
    quota = Account(AccountKind.QUOTA, b"issuer", 7)
    debit = Debit((0, number, name), name, Trm(limit), Trm(0), LINES, on_credit=True, limit_of=to)
    return name, Demand(quota, debit)


def trade(payer: int, payee: int, number: int, amount: int, declared: int, progress: int = 1) -> tuple[bytes, Demand]:
    name = identity("trade", payer, payee, number, amount, declared, progress)
    order = (0, number, b"")
    debit = Debit(order, name, Trm(amount), Trm(declared), key_account(KEYS[payee]), on_credit=True, progress=progress)
    return name, Demand(key_account(KEYS[payer]), debit)


def transfer(payer: int, payee: int, number: int, amount: int, declared: int) -> tuple[bytes, Demand]:
    name = identity("transfer", payer, payee, number, amount, declared)
    debit = Debit((0, number, name), name, Trm(amount), Trm(declared), key_account(KEYS[payee]), on_credit=False)
    return name, Demand(key_account(KEYS[payer]), debit)


@st.composite
def liars(draw: st.DrawFn) -> list[tuple[bytes, Demand]]:
    """Arbitrary records: wrong totals, holes, rings, late numbers."""
    rows = []
    for payer in range(4):
        numbers = draw(st.lists(st.integers(1, 8), unique=True, max_size=6))
        for number in numbers:
            payee = draw(st.sampled_from([k for k in range(4) if k != payer]))
            rows.append(trade(payer, payee, number, draw(st.integers(1, 60)), draw(st.integers(0, 80))))
    rows += [grant(KEYS[k], CREDIT, k + 1) for k in range(4) if draw(st.booleans())]
    return rows


def folded(rows: list[tuple[bytes, Demand]]) -> Book:
    result = book()
    result.add_all(rows)
    return result


@settings(max_examples=300, deadline=None)
@given(liars(), st.integers(0, 2**32))
def test_any_order_and_repetition_gives_the_same_bytes(rows: list[tuple[bytes, Demand]], seed: int) -> None:
    shuffled = rows + rows[: len(rows) // 2]
    random_module.Random(seed).shuffle(shuffled)
    first, second = folded(rows), folded(shuffled)
    assert first.state_bytes() == second.state_bytes()
    assert first.imbalance() == 0


@settings(max_examples=300, deadline=None)
@given(liars(), st.integers(0, 2**32))
def test_equals_the_oracle(rows: list[tuple[bytes, Demand]], seed: int) -> None:
    random_module.Random(seed).shuffle(rows)
    result = folded(rows)
    credit = {demand.debit.limit_of.hex(): CREDIT for _, demand in rows if demand.debit.limit_of}
    debits: dict[str, list[tuple[tuple[object, ...], bytes, int, int, str]]] = {}
    for name, demand in rows:
        if demand.account.kind is AccountKind.KEY:
            debit = demand.debit
            row = (debit.order, name, int(debit.amount), int(debit.declared), debit.payee.owner.hex())
            debits.setdefault(demand.account.owner.hex(), []).append(row)
    applied, net = fixpoint(debits, credit)
    assert {k.hex(): result.net(key_account(k)) for k in KEYS if result.net(key_account(k))} == net
    for name, demand in rows:
        if demand.account.kind is AccountKind.KEY:
            assert result.is_applied(name) == (name in applied)
    for k in KEYS:
        assert result.net(key_account(k)) >= -result.limit(k)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_honest_payers_applied_debit_never_unapplies(data: st.DataObject) -> None:
    """Honest totals: declared covers everything numbered below; records arrive in any order, a few at a time."""
    rows, settled = [grant(KEYS[0], CREDIT)], 0
    for number in range(1, data.draw(st.integers(1, 8))):
        amount = data.draw(st.integers(1, 20))
        rows.append(trade(0, 1 + number % 3, number, amount, settled))
        settled += amount
    order = data.draw(st.permutations(rows))
    result, seen = book(), set()
    for name, demand in order:
        result.add(name, demand)
        now = {n for n, d in rows if d.account.kind is AccountKind.KEY and result.is_applied(n)}
        assert seen <= now
        seen = now
    assert result.refolds == 0


def test_grants_do_not_add_up_and_never_expire() -> None:
    result = folded([grant(KEYS[0], 30, 1), grant(KEYS[0], 50, 2)])
    assert result.limit(KEYS[0]) == 50


def test_a_line_funds_trades_but_no_transfer() -> None:
    result = folded([grant(KEYS[0], 100), transfer(0, 1, 1, 10, 0)])
    assert result.net(key_account(KEYS[1])) == 0
    result.add_all([grant(KEYS[2], 100, 2), trade(2, 0, 1, 10, 0)])
    assert result.net(key_account(KEYS[1])) == 10, "income wakes the waiting transfer"


def test_of_several_trades_of_one_session_the_highest_counts() -> None:
    rows = [grant(KEYS[0], 100), trade(0, 1, 1, 10, 0, progress=64), trade(0, 1, 1, 25, 0, progress=160)]
    for order in (rows, rows[::-1]):
        assert folded(list(order)).net(key_account(KEYS[1])) == 25


def test_circular_support_is_withdrawn_when_a_late_number_appears() -> None:
    """Income that stems from the debit in question does not keep it alive: least fixpoint, not greatest."""
    rows = [grant(KEYS[0], 10), trade(0, 1, 5, 10, 0), trade(1, 0, 1, 10, 0), trade(0, 2, 1, 10, 0)]
    fresh, late = folded(rows[:1] + rows[3:] + rows[1:3]), folded(rows)
    assert fresh.state_bytes() == late.state_bytes()
