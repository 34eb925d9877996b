"""The two oracles of the protocol, as literal and slow as they are written there; tests compare against them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


def applied(debits: Iterable[tuple[tuple[object, ...], bytes, int, int]], income: int, credit: int) -> set[bytes]:
    """B2 for one payer. debits: (number, id, amount, declared = S + sum of open ceilings)."""
    total, ok = 0, set()
    for _, identity, amount, declared in sorted(debits):
        if income + credit >= max(declared, total) + amount:
            ok.add(identity)
        total += amount
    return ok


def fixpoint(
    debits: dict[str, list[tuple[tuple[object, ...], bytes, int, int, str]]], credit: dict[str, int]
) -> tuple[set[bytes], dict[str, int]]:
    """Least fixpoint over all payers. debits: payer → (order, id, amount, declared, payee). Returns (applied, net)."""
    done: set[bytes] = set()
    while True:
        income: dict[str, int] = {}
        for rows in debits.values():
            for _, identity, amount, _, payee in rows:
                if identity in done:
                    income[payee] = income.get(payee, 0) + amount
        now = {
            identity
            for payer, rows in debits.items()
            for identity in applied([row[:4] for row in rows], income.get(payer, 0), credit.get(payer, 0))
        }
        if now == done:
            break
        done = now
    net = dict(income)
    for payer, rows in debits.items():
        net[payer] = net.get(payer, 0) - sum(row[2] for row in rows if row[1] in done)
    return done, {key: value for key, value in net.items() if value}


class Acceptance(NamedTuple):
    inc: int
    n: int
    S: int
    open: dict[int, int]
    body: bytes


class Promise(NamedTuple):
    inc: int
    n: int
    amount: int


def convicts(acceptances: Sequence[Acceptance], vouchers: Sequence[Promise]) -> str | None:
    """B8 for one payer; must stay None for every honest history."""
    best: dict[tuple[int, int], int] = {}
    seen: dict[tuple[int, int], bytes] = {}
    for v in vouchers:
        best[v.inc, v.n] = max(best.get((v.inc, v.n), 0), v.amount)
    for x in acceptances:
        if seen.setdefault((x.inc, x.n), x.body) != x.body:
            return "same number"
        if sum(a for (i, n), a in best.items() if i == x.inc and n < x.n and n not in x.open) > x.S:
            return "totals"
        if any(best.get((x.inc, n), 0) > c for n, c in x.open.items()):
            return "over ceiling"
    return None
