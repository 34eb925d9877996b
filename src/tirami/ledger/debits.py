"""What is taken from one account: numbered debits and the rule of covered totals (PROTOCOL B2).

Pure data structure; knows nothing of signatures or of other accounts. A debit is known by its place among all the
records of the book; :class:`Demands` keeps what each of them asks, packed.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from tirami.core.units import Trm
from tirami.ledger.accounts import Account
from tirami.ledger.columns import LARGEST, U32, U64, Column, RecordIds, Table

Order = tuple[int, int, bytes]
"""(incarnation, number, tie-break): debits of one account are ranked by it."""

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

    def _account(self, account: Account) -> int:
        number = self._numbers.setdefault(account, len(self._accounts))
        if number == len(self._accounts):
            self._accounts.append(account)
        return number


class Debits:
    """All known debits of one account, in order, and which of them wait.

    A debit of amount a applies when ``income + credit ≥ max(declared, Σ known amounts below) + a``.
    """

    def __init__(self, demands: Demands) -> None:
        self._demands = demands
        self._orders = Table(U32)
        """Places, by order."""
        self.waiting: list[int] = []
        """Places of those that do not apply yet, by order."""
        self.known = Trm(0)
        """Σ of all known amounts."""

    def at(self, order: Order) -> int | None:
        """Place of the debit of this order; the newest ones are found without a search."""
        if self._is_last(order):
            return None
        rank = self._rank(order)
        place = self._orders[rank]
        return place if self._demands.order(place) == order else None

    def add(self, place: int) -> bool:
        """Insert a debit of a new order; returns whether it stands last (the cheap case)."""
        order = self._demands.order(place)
        last = self._is_last(order)
        if last:
            self._orders.append(place)
            self.waiting.append(place)
        else:
            self._orders.insert(self._rank(order), place)
            self.wait(place)
        self.known = Trm(self.known + self._demands.amount(place))
        return last

    def replace(self, previous: int, place: int) -> None:
        """Put a debit where another of its order waits."""
        order, amount = self._demands.order(place), self._demands.amount
        self._orders[self._rank(order)] = place
        self.waiting[self._waits_at(order)] = place
        self.known = Trm(self.known + amount(place) - amount(previous))

    def wait(self, place: int) -> None:
        """It waits, again or for the first time."""
        self.waiting.insert(self._waits_at(self._demands.order(place)), place)

    def apply(self, place: int, turn: int) -> None:
        """A waiting one in a turn that has become free."""
        del self.waiting[self._waits_at(self._demands.order(place))]
        self._demands.apply(place, turn)

    def take_funded(self, income: Trm, credit: Trm) -> list[int]:
        """Mark every waiting debit that is covered now as applied and return them in order. O(1) for one, else O(n)."""
        if len(self.waiting) == 1:
            place = self.waiting[0]
            funded = [place] if self.covers(place, income, credit) else []
        else:
            funded = self._funded_of_many(income, credit)
        for place in funded:
            self._demands.apply(place)
        if funded:
            self.waiting = [place for place in self.waiting if not self._demands.applied(place)]
        return funded

    def raised_by(self, place: int) -> bool:
        """Whether the debit at ``place``, just inserted, raised what a later applied debit needs. O(k), as below.

        Never for an honest payer: its declared totals cover everything it ever numbered below.
        """
        demands = self._demands
        total = self._below(place) + demands.amount(place)
        for later in self._orders[self._rank(demands.order(place)) + 1 :]:
            if demands.applied(later) and total > demands.declared(later):
                return True
            total += demands.amount(later)
        return False

    def covers(self, place: int, income: Trm, credit: Trm) -> bool:
        """Whether these means cover it (B2)."""
        return self._means(place, income, credit) >= self._need(place, self._below(place))

    def uncovered(self, means: Iterator[tuple[int, Trm, Trm]]) -> list[int]:
        """Applied debits that what applied before them does not cover. O(n log n).

        Args:
            means: income and credit as they became, and after which turn; ascending.
        """
        demands, below, applied = self._demands, 0, []
        for place in self._orders:
            if turn := demands.turn(place):
                applied.append((turn, self._need(place, below), place))
            below += demands.amount(place)
        found: list[int] = []
        income, credit, coming = Trm(0), Trm(0), next(means, None)
        for turn, need, place in sorted(applied):
            while coming is not None and coming[0] < turn:
                _, income, credit = coming
                coming = next(means, None)
            if self._means(place, income, credit) < need:
                found.append(place)
        return found

    def _means(self, place: int, income: Trm, credit: Trm) -> int:
        return income + credit if self._demands.on_credit(place) else income

    def _need(self, place: int, below: int) -> int:
        return max(self._demands.declared(place), below) + self._demands.amount(place)

    def _below(self, place: int) -> int:
        """Σ of known amounts ranked before that debit. O(k) for k debits ranked after it."""
        amount = self._demands.amount
        return self.known - sum(map(amount, self._orders[self._rank(self._demands.order(place)) :]))

    def _funded_of_many(self, income: Trm, credit: Trm) -> list[int]:
        funded, below, waiting = [], 0, set(self.waiting)
        for place in self._orders:
            if place in waiting and self._means(place, income, credit) >= self._need(place, below):
                funded.append(place)
            below += self._demands.amount(place)
        return funded

    def _waits_at(self, order: Order) -> int:
        return bisect_left(self.waiting, order, key=self._demands.order)

    def _is_last(self, order: Order) -> bool:
        return not self._orders or order > self._demands.order(self._orders[-1])

    def _rank(self, order: Order) -> int:
        """Index of ``order``; the newest ones are found without a search."""
        if self._orders and order == self._demands.order(self._orders[-1]):
            return len(self._orders) - 1
        return bisect_left(self._orders, order, key=self._demands.order)
