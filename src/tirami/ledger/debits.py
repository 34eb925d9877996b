"""What is taken from one account: numbered debits and the rule of covered totals (PROTOCOL B2).

Pure data structure; knows nothing of signatures or of other accounts.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from tirami.core.units import Trm
from tirami.ledger.accounts import Account

Order = tuple[int, int, bytes]
"""(incarnation, number, tie-break): debits of one account are ranked by it."""


@dataclass(frozen=True, slots=True)
class Debit:
    """One numbered debit.

    Attributes:
        order: rank among the debits of its account.
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


@dataclass(slots=True)
class Debits:
    """All known debits of one account, in order, and which of them apply.

    A debit of amount a applies when ``income + credit ≥ max(declared, Σ known amounts below) + a``.
    """

    orders: list[Order] = field(default_factory=list)
    by_order: dict[Order, Debit] = field(default_factory=dict)
    applied: set[Order] = field(default_factory=set)
    waiting: list[Order] = field(default_factory=list)
    """Known but not applied, in order."""
    known: Trm = Trm(0)
    """Σ of all known amounts."""

    def add(self, debit: Debit) -> bool:
        """Insert, or replace the debit of the same order; returns whether it stands last (the cheap case)."""
        last = not self.orders or debit.order > self.orders[-1]
        previous = self.by_order.get(debit.order)
        if last:
            self.orders.append(debit.order)
            self.waiting.append(debit.order)
        elif previous is None:
            insort(self.orders, debit.order)
            insort(self.waiting, debit.order)
        self.known = Trm(self.known + debit.amount - (previous.amount if previous else 0))
        self.by_order[debit.order] = debit
        return last

    def below(self, order: Order) -> Trm:
        """Σ of known amounts ranked before ``order``. O(k) for k debits ranked after it."""
        return Trm(self.known - sum(self.by_order[later].amount for later in self.orders[self._rank(order) :]))

    def funded(self, order: Order, income: Trm, credit: Trm) -> bool:
        debit = self.by_order[order]
        means = income + credit if debit.on_credit else income
        return means >= max(debit.declared, self.below(order)) + debit.amount

    def take_funded(self, income: Trm, credit: Trm) -> list[Debit]:
        """Mark every waiting debit that is covered now as applied and return them in order. O(1) for one, else O(n)."""
        if len(self.waiting) == 1:
            funded = [order for order in self.waiting if self.funded(order, income, credit)]
        else:
            funded = self._funded_of_many(income, credit)
        self.applied.update(funded)
        if funded:
            self.waiting = [order for order in self.waiting if order not in self.applied]
        return [self.by_order[order] for order in funded]

    def _funded_of_many(self, income: Trm, credit: Trm) -> list[Order]:
        funded, below, waiting = [], Trm(0), set(self.waiting)
        for order in self.orders:
            debit = self.by_order[order]
            if order in waiting:
                means = income + credit if debit.on_credit else income
                if means >= max(debit.declared, below) + debit.amount:
                    funded.append(order)
            below = Trm(below + debit.amount)
        return funded

    def raised_by(self, order: Order) -> bool:
        """Whether the debit at ``order``, just inserted, raised what a later applied debit needs. O(k), as above.

        Never for an honest payer: its declared totals cover everything it ever numbered below.
        """
        total = Trm(self.below(order) + self.by_order[order].amount)
        for later in self.orders[self._rank(order) + 1 :]:
            debit = self.by_order[later]
            if later in self.applied and total > debit.declared:
                return True
            total = Trm(total + debit.amount)
        return False

    def _rank(self, order: Order) -> int:
        """Index of ``order``; the newest ones are found without a search."""
        if self.orders and order == self.orders[-1]:
            return len(self.orders) - 1
        return bisect_left(self.orders, order)
