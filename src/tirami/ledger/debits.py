"""What is taken from one account: numbered debits and the rule of covered totals (PROTOCOL B2).

Pure data structure; knows nothing of signatures or of other accounts.
"""

from collections.abc import Iterator

from tirami.core.units import Trm
from tirami.ledger.demands import Demands, Order
from tirami.ledger.ranked import Ranked


class Debits:
    """All known debits of one account, in order, and which of them wait.

    A debit of amount a applies when ``income + credit ≥ max(declared, Σ known amounts below) + a``. Whatever arrives
    late costs O(log n), but for :meth:`uncovered`, which an honest payer's records never make necessary.
    """

    def __init__(self, demands: Demands) -> None:
        self._demands = demands
        self._ranked = Ranked(demands)
        self._added: list[int] = []
        """Places of those that nobody tried to fund yet."""
        self.waiting = 0
        """How many do not apply yet."""

    @property
    def known(self) -> Trm:
        """Σ of all known amounts."""
        return Trm(self._ranked.total)

    def at(self, order: Order) -> int | None:
        """Place of the debit of this order; that there is no newer one is seen at once."""
        return self._ranked.find(order)

    def add(self, place: int) -> bool:
        """Insert a debit of a new order; returns whether it stands last (the cheap case)."""
        self._added.append(place)
        self.waiting += 1
        return self._ranked.add(place)

    def replace(self, previous: int, place: int) -> None:
        """Put a debit where another of its order waits."""
        self._added = [one for one in self._added if one != previous]
        self._ranked.replace(place)

    def wait(self, place: int) -> None:
        """One that applied waits again."""
        self.waiting += 1
        self._ranked.recount(place)

    def apply(self, place: int, turn: int) -> None:
        """A waiting one in a turn that has become free."""
        self.waiting -= 1
        self._added = [one for one in self._added if one != place]
        self._demands.apply(place, turn)
        self._ranked.recount(place)

    def take_funded(self, income: Trm, credit: Trm) -> list[int]:
        """Mark every waiting debit that is covered now as applied and return them in order. O(log n) for each."""
        added, self._added = self._added, []
        means = income, income + credit
        if len(added) == 1 and not self._ranked.asks_within(means):
            funded = [place for place in added if self.covers(place, income, credit)]
            for place in funded:
                self._demands.apply(place)
            self._ranked.count(added[0])
        else:
            for place in added:
                self._ranked.count(place)
            funded = self._ranked.take(means)
        self.waiting -= len(funded)
        return funded

    def raised_by(self, place: int) -> bool:
        """Whether the debit at ``place``, just inserted, raised what a later applied debit needs.

        Never for an honest payer: its declared totals cover everything it ever numbered below.
        """
        return self._ranked.slack_after(place) < 0

    def covers(self, place: int, income: Trm, credit: Trm) -> bool:
        """Whether these means cover it (B2)."""
        return self._means(place, income, credit) >= self._need(place, self._ranked.below(place))

    def uncovered(self, means: Iterator[tuple[int, Trm, Trm]]) -> list[int]:
        """Applied debits that what applied before them does not cover. O(n log n).

        Args:
            means: income and credit as they became, and after which turn; ascending.
        """
        demands, below, applied = self._demands, 0, []
        for place in self._ranked:
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
