"""What records demand of the book: each one numbered debit of one account, kept packed.

Pure data structure; knows nothing of signatures. A debit is known by its place among all the records of the book.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tirami.core.units import Trm
from tirami.ledger.accounts import Account
from tirami.ledger.columns import LARGEST, U32, U64, Column, RecordIds, Table

Order = tuple[int, int, bytes]
"""(incarnation, number, tie-break): debits of one account are ranked by it."""

ABSENT = 1 << 200
"""What is lowest among none: beyond anything amounts can add up to."""
_ON_CREDIT, _TIED = 1, 2


@dataclass(frozen=True, slots=True)
class Debit:
    """One numbered debit.

    Attributes:
        order: rank among the debits of its account; the tie-break is the record id or nothing.
        record_id: the record that demands it.
        amount: TRM taken.
        declared: S + Σ open ceilings as the payer signed them.
        payee: the account credited with the same amount.
        on_credit: whether a credit line may fund it (trades only, B4).
        limit_of: for a grant, the key whose line it opens; empty otherwise.
        progress: completion tokens of a trade; of several trades of one session the highest counts.
    """

    order: Order
    record_id: bytes
    amount: Trm
    declared: Trm
    payee: Account
    on_credit: bool
    limit_of: bytes = b""
    progress: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What an admitted record asks of the book: one debit of one account."""

    account: Account
    debit: Debit


class Demands:
    """Every demand the book has seen, by place, in columns: about 100 bytes each, their ids included."""

    def __init__(self) -> None:
        self.ids = RecordIds()
        self._incarnation = Column(U64)
        self._number = Column(U64)
        self._amount = Column(U64)
        self._declared = Column(U64)
        self._progress = Column(U64)
        self._payee = Column(U32)
        self._flags = bytearray()
        self._turn = Table(U64)
        self._turns = 0
        self._beyond: dict[int, tuple[int, int]] = {}
        """Amount and declared total where either does not fit into a column."""
        self._limits: dict[int, bytes] = {}
        self._accounts: list[Account] = []
        self._numbers: dict[Account, int] = {}

    def add(self, debit: Debit) -> int:
        """Append; returns the debit's place."""
        place, (incarnation, number, tie) = self.ids.add(debit.record_id), debit.order
        if max(debit.amount, debit.declared) > LARGEST:
            self._beyond[place] = debit.amount, debit.declared
        self._incarnation.append(incarnation)
        self._number.append(number)
        self._amount.append(min(debit.amount, LARGEST))
        self._declared.append(min(debit.declared, LARGEST))
        self._progress.append(debit.progress)
        self._payee.append(self._account(debit.payee))
        self._flags.append((_ON_CREDIT if debit.on_credit else 0) | (_TIED if tie else 0))
        self._turn.append(0)
        if debit.limit_of:
            self._limits[place] = debit.limit_of
        return place

    def order(self, place: int) -> Order:
        tie = self.ids[place] if self._flags[place] & _TIED else b""
        return self._incarnation[place], self._number[place], tie

    def amount(self, place: int) -> Trm:
        return Trm(self._beyond[place][0] if place in self._beyond else self._amount[place])

    def declared(self, place: int) -> Trm:
        return Trm(self._beyond[place][1] if place in self._beyond else self._declared[place])

    def payee(self, place: int) -> Account:
        return self._accounts[self._payee[place]]

    def limit_of(self, place: int) -> bytes:
        """For a grant, the key whose line it opens."""
        return self._limits.get(place, b"")

    def on_credit(self, place: int) -> bool:
        return bool(self._flags[place] & _ON_CREDIT)

    def applied(self, place: int) -> bool:
        return self._turn[place] != 0

    def turn(self, place: int) -> int:
        """When it applied: it rests on what has a lower turn, and on nothing else. 0 while it waits."""
        return self._turn[place]

    def apply(self, place: int, turn: int = 0) -> None:
        """In the next turn, or in one that has become free."""
        if not turn:
            turn = self._turns = self._turns + 1
        self._turn[place] = turn

    def unapply(self, place: int) -> None:
        self._turn[place] = 0

    def supersedes(self, new: Debit, place: int) -> bool:
        """Of several trades of one session the one with the most tokens counts; ties go to the smaller record id."""
        old = self._progress[place], self.amount(place), new.record_id
        return (new.progress, new.amount, self.ids[place]) > old

    # --- of many at once, in the order given ---------------------------------------------------------------------

    def total(self, places: Sequence[int]) -> int:
        """Σ of their amounts."""
        return sum(map(self._amounts(), places))

    def slack(self, places: Sequence[int]) -> int:
        """Of those that apply, the lowest declared total less the amounts of those before it here."""
        low, below = ABSENT, 0
        amounts, totals = map(self._amounts(), places), map(self._totals(), places)
        for turn, amount, declared in zip(map(self._turn.__getitem__, places), amounts, totals, strict=True):
            if turn and declared - below < low:
                low = declared - below
            below += amount
        return low

    def asked(self, places: Sequence[int]) -> tuple[int, int]:
        """Of those that wait, the lowest declared total with the own amount: of what no line funds, of what one may."""
        low = [ABSENT, ABSENT]
        for place in places:
            if not self._turn[place]:
                kind, asked = self._flags[place] & _ON_CREDIT, self.declared(place) + self.amount(place)
                low[kind] = min(low[kind], asked)
        return low[0], low[1]

    def _amounts(self) -> Callable[[int], int]:
        return self.amount if self._beyond else self._amount.__getitem__

    def _totals(self) -> Callable[[int], int]:
        return self.declared if self._beyond else self._declared.__getitem__

    def _account(self, account: Account) -> int:
        number = self._numbers.setdefault(account, len(self._accounts))
        if number == len(self._accounts):
            self._accounts.append(account)
        return number
