"""Everything a state holds, as plain values: for comparing states that came about in different ways."""

from array import array
from collections.abc import Mapping
from typing import Any

import msgspec

from tirami.ledger import Journal, Ledger, PayerBooks, SpendWindow, State
from tirami.ledger.ranked import Ranked
from tirami.proto import NetworkFile

REMEMBERED = {"_hashed", "_root"}
"""Results kept for the next question; no part of the state."""


def described(state: State, now_ms: int) -> Any:
    """All attributes of all objects, by name, whatever they are called; each object once, later as its number.

    Asking for a payer's books makes empty ones and forgets spends that are an hour old: that and their order, which is
    that of the first question, are evened out.
    """
    books = state.holds._books
    for account in [account for account, known in books.items() if known == PayerBooks()]:
        del books[account]
    for known in books.values():
        known.spent_in_hour(now_ms)
    state.holds._books = dict(sorted(books.items()))
    return _value(state, {})


def same(ledger: Ledger) -> None:
    """The ledger's state, however it came about, is the fold of all its entries from nothing."""
    state = State(ledger.network, ledger._journal)
    for seq in range(1, ledger.seq + 1):
        state.apply(ledger._journal.entry(seq))
    assert described(ledger.state, ledger.now()) == described(state, ledger.now())


def _value(value: Any, seen: dict[int, int]) -> Any:
    match value:
        case None | bool() | int() | float() | str() | bytes() | msgspec.Struct():
            return value
        case Journal() | NetworkFile():
            return type(value).__name__
        case bytearray():
            return bytes(value)
        case array():
            return list(value)
        case set():
            return sorted(value)
        case Ranked():
            return list(value)  # into which parts it is cut, and what each sums up, follows how it grew
        case SpendWindow():
            gone = value._gone
            return value._dropped + gone, list(value._times[gone:]), list(value._amounts[gone:]), value.total
    if id(value) in seen:
        return f"object {seen[id(value)]}"
    seen[id(value)] = len(seen)
    match value:
        case Mapping():
            return [(_value(key, seen), _value(item, seen)) for key, item in value.items()]
        case tuple() | list():
            return [_value(item, seen) for item in value]
    if hasattr(value, "popleft"):
        return [_value(item, seen) for item in value]
    names = list(getattr(value, "__slots__", ())) or list(vars(value))
    assert names or type(value).__module__ == "builtins" or callable(value), value
    return type(value).__name__, {name: _value(getattr(value, name), seen) for name in names if name not in REMEMBERED}
