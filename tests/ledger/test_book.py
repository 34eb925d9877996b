"""The book against the oracle of PROTOCOL.md: any order, any repetition, liars included."""

import random as random_module
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.ledger.oracle import fixpoint
from tirami.core.units import Trm
from tirami.ledger import LINES, Account, AccountKind, Book, Debit, Demand, key_account

FREE = [bytes([k]) * 32 for k in range(256)]
KEYS = FREE[:4]
CREDIT = 50


def book() -> Book:
    def allowance(account: Account) -> Trm:
        return Trm(10_000 if account.kind in (AccountKind.QUOTA, AccountKind.LOCAL) else 0)

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
    debit = Debit(order, name, Trm(amount), Trm(declared), key_account(FREE[payee]), on_credit=True, progress=progress)
    return name, Demand(key_account(FREE[payer]), debit)


def local_trade(number: int) -> tuple[bytes, Demand]:
    """Of the owner at the own machine."""
    owner, node = (Account(AccountKind.LOCAL, FREE[place]) for place in (8, 9))
    name = identity("local", number)
    return name, Demand(owner, Debit((0, number, b""), name, Trm(number), Trm(0), node, on_credit=True))


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
    add_all(result, rows)
    return result


def add_all(to: Book, rows: Iterable[tuple[bytes, Demand]]) -> None:
    for name, demand in rows:
        to.add(name, demand)


@settings(max_examples=examples(300), deadline=None)
@given(liars(), st.integers(0, 2**32))
def test_any_order_and_repetition_gives_the_same_bytes(rows: list[tuple[bytes, Demand]], seed: int) -> None:
    shuffled = rows + rows[: len(rows) // 2]
    random_module.Random(seed).shuffle(shuffled)
    first, second = folded(rows), folded(shuffled)
    assert first.own_state_bytes() == second.own_state_bytes()
    assert first.imbalance() == 0


@settings(max_examples=examples(300), deadline=None)
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


@settings(max_examples=examples(200), deadline=None)
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
    assert result.withdrawn == 0


def test_what_is_shared_is_the_same_whatever_was_traded_locally() -> None:
    rows = [grant(KEYS[0], CREDIT), trade(0, 1, 1, 10, 0), trade(1, 2, 1, 5, 0)]
    here, there = book(), book()
    for row in rows:
        there.add(*row)
    for number, row in enumerate(rows):
        here.add(*local_trade(number))
        here.add(*row)
    assert here.state_hash() == there.state_hash() == there.own_state_hash()
    assert here.own_state_hash() != there.own_state_hash()
    before = here.state_hash(), here.own_state_hash()
    here.add(*local_trade(9))
    assert here.state_hash() == before[0]
    assert here.own_state_hash() != before[1]


def test_grants_do_not_add_up_and_never_expire() -> None:
    result = folded([grant(KEYS[0], 30, 1), grant(KEYS[0], 50, 2)])
    assert result.limit(KEYS[0]) == 50


def test_totals_that_fit_into_no_column_count_in_full() -> None:
    """What a payer declared may exceed 64 bits, and so may what it takes to cover it."""
    most = (1 << 64) - 1

    def rich(account: Account) -> Trm:
        return Trm(1 << 70 if account.kind is AccountKind.QUOTA else 0)

    for declared, applies in ((most - 1, True), (most, True), (most + 1, False)):
        result = Book(rich)
        add_all(result, [grant(KEYS[0], most + 10), trade(0, 1, 1, 10, declared)])
        assert (result.net(key_account(KEYS[1])) == 10) == applies
        add_all(result, [trade(0, 2, 2, 1, 0)])
        assert result.net(key_account(KEYS[2])) == 1


def test_a_line_funds_trades_but_no_transfer() -> None:
    result = folded([grant(KEYS[0], 100), transfer(0, 1, 1, 10, 0)])
    assert result.net(key_account(KEYS[1])) == 0
    add_all(result, [grant(KEYS[2], 100, 2), trade(2, 0, 1, 10, 0)])
    assert result.net(key_account(KEYS[1])) == 10, "income wakes the waiting transfer"


def test_of_several_trades_of_one_session_the_highest_counts() -> None:
    rows = [grant(KEYS[0], 100), trade(0, 1, 1, 10, 0, progress=64), trade(0, 1, 1, 25, 0, progress=160)]
    for order in (rows, rows[::-1]):
        assert folded(list(order)).net(key_account(KEYS[1])) == 25


def test_circular_support_is_withdrawn_when_a_late_number_appears() -> None:
    """Income that stems from the debit in question does not keep it alive: least fixpoint, not greatest."""
    rows = [grant(KEYS[0], 10), trade(0, 1, 5, 10, 0), trade(1, 0, 1, 10, 0), trade(0, 2, 1, 10, 0)]
    fresh, late = folded(rows[:1] + rows[3:] + rows[1:3]), folded(rows)
    assert fresh.own_state_bytes() == late.own_state_bytes()


@st.composite
def rivals(draw: st.DrawFn) -> list[tuple[bytes, Demand]]:
    """Liars that also sign several trades of one session, with any payee, amount and totals."""
    rows = draw(liars())
    for _ in range(draw(st.integers(1, 12))):
        payer, payee = draw(st.permutations(range(4)))[:2]
        number, progress = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        rows.append(trade(payer, payee, number, draw(st.integers(1, 60)), draw(st.integers(0, 80)), progress))
    return rows


def counting(rows: list[tuple[bytes, Demand]]) -> list[tuple[bytes, Demand]]:
    """Of several trades of one session the one with most tokens, then most TRM, then the smaller id."""
    best: dict[object, tuple[bytes, Demand]] = {}
    for name, demand in sorted(rows, key=lambda row: row[0], reverse=True):
        key, debit = (demand.account, demand.debit.order), demand.debit
        known = best.get(key)
        if known is None or (debit.progress, debit.amount) >= (known[1].debit.progress, known[1].debit.amount):
            best[key] = name, demand
    return list(best.values())


@settings(max_examples=examples(500), deadline=None)
@given(rivals(), st.integers(0, 2**32))
def test_of_rival_trades_one_counts_in_any_order(rows: list[tuple[bytes, Demand]], seed: int) -> None:
    shuffled = rows + rows[: len(rows) // 2]
    random_module.Random(seed).shuffle(shuffled)
    first, second, alone = folded(rows), folded(shuffled), folded(counting(rows))
    assert first.own_state_bytes() == second.own_state_bytes()
    assert {a: n for a, n in first.balances().items() if n} == {a: n for a, n in alone.balances().items() if n}
    for name, _ in rows:
        assert first.is_applied(name) == second.is_applied(name) == alone.is_applied(name)
    for one in (first, second):
        assert one.imbalance() == one.total == 0
        assert one.drawn == sum(-n for a, n in one.balances().items() if n < 0 and a.kind is AccountKind.KEY)


def test_what_a_rival_costs_is_its_own_accounts_business(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, book_ = Crowd(seed=2), book()
    for _ in range(3_000):
        book_.add(*crowd.record(book_))
    looked_at: list[Account] = []
    means = Book._means_by_turn

    def counted(self: Book, account: Account) -> Iterator[tuple[int, Trm, Trm]]:
        looked_at.append(account)
        return means(self, account)

    monkeypatch.setattr(Book, "_means_by_turn", counted)
    add_all(book_, (trade(101, 102, 1, 1, 0, progress) for progress in range(64)))
    add_all(book_, [grant(FREE[101], CREDIT, 10**6)])
    assert book_.net(key_account(FREE[102])) == 1, "the last of those that waited"
    add_all(book_, (trade(101, 102, 1, amount, 0, 64 + amount) for amount in range(2, CREDIT + 1)))
    assert book_.net(key_account(FREE[102])) == CREDIT
    assert not looked_at, "whoever was paid has no less than before"
    withdrawn = book_.withdrawn
    add_all(book_, [trade(102, 103, 1, CREDIT, 0)])
    add_all(book_, [trade(101, 102, 1, CREDIT + 1, 0, 1_000)])
    assert book_.net(key_account(FREE[102])) == book_.net(key_account(FREE[103])) == 0
    assert looked_at == [key_account(FREE[102])], "103 has taken nothing"
    assert book_.withdrawn == withdrawn + 1


class Crowd:
    """Fifty keys that trade, give and lie: a record at a time, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random_module.Random(seed)
        self.keys = [bytes([k]) * 32 for k in range(50)]
        self.numbers: dict[bytes, int] = defaultdict(int)
        self.settled: dict[bytes, int] = defaultdict(int)
        self.skipped: list[tuple[bytes, int]] = []
        self.granted: list[bytes] = []
        self.days = 0
        self.sent: list[tuple[bytes, Demand]] = []

    def record(self, book: Book) -> tuple[bytes, Demand]:
        dice = self.random.random()
        if len(self.granted) < 50 or dice < 0.001:
            made = self._grant()
        elif dice < 0.05:
            made = self.random.choice(self.sent)  # seen before
        elif dice < (0.07 if len(self.sent) < 2_000 else 0.0515):
            made = self._lie()
        else:
            made = self._honest(book, is_transfer=dice < 0.3)
        self.sent.append(made)
        return made

    def _grant(self) -> tuple[bytes, Demand]:
        """The next key's first line, later any key's other one; a liar's grant is beyond the quota of its day."""
        new = len(self.granted) < 50
        to = self.keys[len(self.granted)] if new else self.random.choice(self.keys)
        self.granted.append(to)
        self.days += 1
        limit = 1_000 if new else self.random.choice((1, 1_000, 20_000))
        name = identity("grant", self.days)
        debit = Debit((0, 1, name), name, Trm(limit), Trm(0), LINES, on_credit=True, limit_of=to)
        return name, Demand(Account(AccountKind.QUOTA, b"issuer", self.days), debit)

    def _honest(self, book: Book, *, is_transfer: bool) -> tuple[bytes, Demand]:
        payer, payee = self.random.sample(self.keys, 2)
        account = key_account(payer)
        means = book.income(account) + (0 if is_transfer else book.limit(payer)) - self.settled[payer]
        amount = self.random.randint(1, max(1, min(means, 200)))
        if means < 1 and self.random.random() < 0.99:  # almost nobody asks for what it cannot pay
            return self._honest(book, is_transfer=False)
        if self.random.random() < 0.01:
            self.numbers[payer] += 1
            self.skipped.append((payer, self.numbers[payer]))
        self.numbers[payer] += 1
        declared = self.settled[payer] + self.random.choice((0, 0, 0, 5))
        self.settled[payer] += amount
        return self._debit(payer, payee, self.numbers[payer], amount, declared, on_credit=not is_transfer)

    def _lie(self) -> tuple[bytes, Demand]:
        """Totals of nothing; in the beginning also numbers left out before or used twice, which cost a fold anew."""
        payer, payee = self.random.sample(self.keys, 2)
        amount = self.random.randint(1, 2_000)
        match self.random.randrange(3) if len(self.sent) < 2_000 else 2:
            case 0 if self.skipped:
                payer, number = self.skipped.pop()
                payee = next(key for key in self.keys if key != payer)
            case 1 if self.numbers[payer]:
                number = self.random.randint(max(1, self.numbers[payer] - 3), self.numbers[payer])
            case _:
                self.numbers[payer] += 1
                number = self.numbers[payer]
        self.settled[payer] += amount
        return self._debit(payer, payee, number, amount, 0, on_credit=self.random.random() < 0.5, progress=amount)

    def _debit(
        self, payer: bytes, payee: bytes, number: int, amount: int, declared: int, *, on_credit: bool, progress: int = 1
    ) -> tuple[bytes, Demand]:
        name = identity(payer, number, amount, declared, len(self.sent))
        order = (0, number, b"" if on_credit else name)
        to = key_account(payee)
        return name, Demand(
            key_account(payer), Debit(order, name, Trm(amount), Trm(declared), to, on_credit, b"", progress)
        )


@pytest.mark.row("L1-01")
@pytest.mark.timeout(900)  # a minute where nothing runs beside it
def test_a_hundred_thousand_steps_create_and_lose_nothing() -> None:
    crowd, book_ = Crowd(seed=1), book()
    for step in range(1, 100_001):
        book_.add(*crowd.record(book_))
        if step % 1_000 == 0:
            balances = book_.balances()
            assert sum(balances.values()) == book_.imbalance() == book_.total == 0
            assert book_.drawn == sum(-n for a, n in balances.items() if n < 0 and a.kind is AccountKind.KEY)
            assert book_.minted == book_.burned == 0
    assert book_.withdrawn > 0, "some lie came late enough to matter"
    for key in crowd.keys:
        assert book_.net(key_account(key)) >= -book_.limit(key)
    for day in range(1, crowd.days + 1):
        assert book_.net(Account(AccountKind.QUOTA, b"issuer", day)) >= -10_000
    applied = sum(book_.is_applied(name) for name, _ in crowd.sent)
    assert 80_000 < applied < 100_000
