"""Histories for TIP-07: short lives of a book made of bare debits, folded in several orders."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from tirami.core.keys import sha256
from tirami.ledger import Account, AccountKind, Book, Debit, Demand
from tools.vectors.case import Case, case, plain

ISSUER = sha256(b"issuer")
KEYS = {letter: sha256(letter.encode()) for letter in "ABCD"} | {"I": ISSUER}
QUOTA = 2_000
DAY = 7


def key(letter: str) -> Account:
    return Account(AccountKind.KEY, KEYS[letter])


def demand(
    name: str,
    account: Account,
    number: int,
    amount: int,
    payee: Account,
    *,
    declared: int = 0,
    trade: bool = True,
    progress: int = 1,
    incarnation: int = 0,
    limit_of: bytes = b"",
) -> tuple[bytes, Demand]:
    identity = sha256(name.encode())
    tie = b"" if trade and not limit_of else identity
    on_credit = trade or bool(limit_of)
    order = (incarnation, number, tie)
    debit = Debit(order, identity, cast(Any, amount), cast(Any, declared), payee, on_credit, limit_of, progress)
    return identity, Demand(account, debit)


def line(
    name: str, letter: str, limit: int, number: int = 1, issuer: bytes = ISSUER, day: int = DAY
) -> tuple[bytes, Demand]:
    account = Account(AccountKind.QUOTA, issuer, day)
    lines = Account(AccountKind.LINES, b"")
    return demand(name, account, number, limit, lines, trade=False, progress=0, limit_of=KEYS[letter])


def pay(name: str, payer: str, payee: str, number: int, amount: int, **rest: Any) -> tuple[bytes, Demand]:
    return demand(name, key(payer), number, amount, key(payee), **rest)


def give(name: str, payer: str, payee: str, number: int, amount: int, declared: int = 0) -> tuple[bytes, Demand]:
    return pay(name, payer, payee, number, amount, declared=declared, trade=False, progress=0)


def histories() -> dict[str, list[tuple[bytes, Demand]]]:
    def local(letter: str) -> Account:
        return Account(AccountKind.LOCAL, KEYS[letter])

    return {
        "nothing": [],
        "a line pays for a trade": [line("g", "A", 100), pay("t", "A", "B", 1, 30)],
        "a trade nobody can pay waits": [pay("t", "A", "B", 1, 30)],
        "to the last TRM and not one more": [
            line("g", "A", 100),
            pay("t1", "A", "B", 1, 100),
            pay("t2", "A", "B", 2, 1, declared=100),
        ],
        "income pays on": [line("g", "A", 100), pay("t1", "A", "B", 1, 60), pay("t2", "B", "C", 1, 60)],
        "of one session the most tokens count": [
            line("g", "A", 100),
            pay("v64", "A", "B", 1, 10, progress=64),
            pay("v160", "A", "B", 1, 25, progress=160),
            pay("v128", "A", "B", 1, 20, progress=128),
        ],
        "equal tokens: the larger amount": [
            line("g", "A", 100),
            pay("cheap", "A", "B", 1, 10, progress=64),
            pay("dear", "A", "B", 1, 11, progress=64),
        ],
        "equal tokens and amounts: the smaller id": [
            line("g", "A", 100),
            pay("one", "A", "B", 1, 10, progress=64),
            pay("other", "A", "C", 1, 10, progress=64),
        ],
        "a line gives nothing away": [line("g", "A", 100), give("gift", "A", "B", 1, 10)],
        "income may be given": [
            line("g", "C", 100),
            pay("t", "C", "A", 1, 10),
            give("gift", "A", "B", 1, 10),
        ],
        "lines do not add up": [line("g30", "A", 30), line("g50", "A", 50, 2), pay("t", "A", "B", 1, 51)],
        "a quota is used up": [line("g1", "A", 1_500), line("g2", "B", 600, 2)],
        "no issuer, no line": [line("g", "A", 100, issuer=KEYS["D"]), pay("t", "A", "B", 1, 10)],
        "numbers may have holes": [line("g", "A", 100), pay("t9", "A", "B", 9, 10, declared=70)],
        "an honest total covers what is missing": [
            line("g", "A", 100),
            pay("t1", "A", "B", 1, 40),
            pay("t2", "A", "B", 2, 40, declared=40),
            pay("t3", "A", "B", 3, 20, declared=80),
        ],
        "a liar's later number gives way to an earlier one": [
            line("g", "A", 50),
            pay("t5", "A", "B", 5, 50),
            pay("t1", "A", "C", 1, 50),
        ],
        "a ring that pays itself falls with its support": [
            line("g", "A", 10),
            pay("t5", "A", "B", 5, 10),
            pay("back", "B", "A", 1, 10),
            pay("t1", "A", "C", 1, 10),
        ],
        "a ring without a line is worth nothing": [
            pay("ab", "A", "B", 1, 1_000),
            pay("bc", "B", "C", 1, 1_000),
            pay("ca", "C", "A", 1, 1_000),
        ],
        "a gift and a trade of one number both stand": [
            line("g", "A", 100),
            line("h", "B", 100, 2),
            pay("in", "B", "A", 1, 100),
            pay("t", "A", "C", 1, 60),
            give("gift", "A", "C", 1, 40),
            give("too much", "A", "C", 1, 41),
        ],
        "incarnations rank before numbers": [
            line("g", "A", 50),
            pay("new life", "A", "B", 1, 50, incarnation=1),
            pay("old life", "A", "C", 9, 50),
        ],
        "numbers are an account's: an issuer's quota and its key account": [
            line("g", "A", 100),
            pay("t", "A", "I", 1, 50),
            give("gift", "I", "B", 1, 50),
        ],
        "every day's quota is an account": [
            line("g", "A", QUOTA),
            line("h", "B", QUOTA, day=DAY + 1),
            line("one more", "C", 1, 2),
        ],
        "local stays local": [
            demand("own", local("A"), 1, 500, local("B")),
            pay("t", "B", "C", 1, 1),
        ],
    }


def orders_of(size: int) -> list[list[int]]:
    """Forwards, backwards, rotated, and forwards with everything twice."""
    forwards = list(range(size))
    half = size // 2
    return [forwards, forwards[::-1], forwards[half:] + forwards[:half], forwards + forwards]


def _state(book: Book, ids: Sequence[bytes]) -> Case:
    balances = sorted((a.kind.value, a.owner, a.period, int(net)) for a, net in book.balances().items() if net)
    return {
        "applied": sorted(identity for identity in ids if book.is_applied(identity)),
        "balances": balances,
        "state": book.own_state_bytes(),
        "state_hash": book.own_state_hash(),
    }


def folded(rows: Sequence[tuple[bytes, Demand]], orders: list[list[int]], allowance: Callable[[Account], Any]) -> Case:
    states = []
    for order in orders:
        book = Book(allowance)
        for index in order:
            book.add(*rows[index])
        states.append(plain(_state(book, [identity for identity, _ in rows])))
    assert all(state == states[0] for state in states)
    return cast(Case, states[0])


def _abstract(account: Account) -> Any:
    match account.kind:
        case AccountKind.LOCAL:
            return 1 << 62
        case AccountKind.QUOTA:
            return QUOTA if account.owner == ISSUER else 0
    return 0


def history(name: str, rows: list[tuple[bytes, Demand]]) -> Case:
    orders = orders_of(len(rows))
    debits = [
        {
            "id": identity,
            "account": wanted.account,
            "incarnation": wanted.debit.order[0],
            "number": wanted.debit.order[1],
            "tie": wanted.debit.order[2],
            "amount": wanted.debit.amount,
            "declared": wanted.debit.declared,
            "payee": wanted.debit.payee,
            "on_credit": wanted.debit.on_credit,
            "limit_of": wanted.debit.limit_of,
            "progress": wanted.debit.progress,
        }
        for identity, wanted in rows
    ]
    return case(name, debits=debits, orders=orders, expected=folded(rows, orders, _abstract))
