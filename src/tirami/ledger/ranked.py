"""Debits of one account by rank, and what the rule of covered totals asks of many of them at once (PROTOCOL B2).

A B+ tree of places. Each part of it knows Σ of its amounts, the lowest slack of its applied debits and the least that
those which wait ask for. So a late debit is let in, summed up and judged without a walk over all that rank after it: a
look at O(log n) parts and into one leaf. Leaves are packed, those filled in order to the last place.
"""

from bisect import bisect, bisect_left
from collections.abc import Iterator

from tirami.ledger.columns import U32, Table
from tirami.ledger.demands import ABSENT, Demands, Order

PLACES, PARTS = 64, 32
"""The most in a leaf, and in a branch."""

Means = tuple[int, int]
"""Income alone, and together with the credit line: by :meth:`Demands.on_credit` what may fund a debit."""


class _Part:
    """Debits that stand side by side.

    Attributes:
        total: Σ of their amounts.
        slack: the lowest declared total less Σ of the amounts before it in this part, of those that apply.
        asked: no more than the lowest declared total with its own amount, of those that wait; as :data:`Means`.
    """

    __slots__ = ("asked", "slack", "total")

    def __init__(self) -> None:
        self.total, self.slack, self.asked = 0, ABSENT, (ABSENT, ABSENT)

    def within(self, below: int, means: Means) -> bool:
        """Whether means may cover one that waits, where the amounts before this part add up to ``below``."""
        (plain, funded), (income, all_means) = self.asked, means
        return max(below, plain) <= income or max(below, funded) <= all_means


class _Leaf(_Part):
    __slots__ = ("places",)

    def __init__(self, places: Table) -> None:
        super().__init__()
        self.places = places

    @property
    def first(self) -> int:
        return self.places[0]

    @property
    def is_full(self) -> bool:
        return len(self.places) > PLACES

    def sum_up(self, demands: Demands) -> None:
        self.total, self.slack = demands.total(self.places), demands.slack(self.places)

    def ask(self, demands: Demands) -> None:
        self.asked = demands.asked(self.places)

    def split(self, *, at_end: bool) -> "_Leaf":
        at = PLACES if at_end else PLACES // 2
        right = _Leaf(Table(U32, self.places[at:]))
        del self.places[at:]
        return right


class _Branch(_Part):
    __slots__ = ("first", "parts")

    def __init__(self, parts: "list[_Leaf | _Branch]") -> None:
        super().__init__()
        self.parts = parts
        self.first: int = parts[0].first
        """No part but the first of all ever gets a lower one, and nobody asks for that one's."""

    @property
    def is_full(self) -> bool:
        return len(self.parts) > PARTS

    def sum_up(self, _: Demands) -> None:
        low, below = ABSENT, 0
        for part in self.parts:
            if part.slack - below < low:
                low = part.slack - below
            below += part.total
        self.total, self.slack = below, low

    def ask(self, _: Demands) -> None:
        plain, funded = zip(*(part.asked for part in self.parts), strict=True)
        self.asked = min(plain), min(funded)

    def split(self, *, at_end: bool) -> "_Branch":
        at = PARTS if at_end else PARTS // 2
        right = _Branch(self.parts[at:])
        del self.parts[at:]
        return right


Steps = list[tuple[_Branch, int]]
"""Down to a leaf: in which branch which part."""


class Ranked:
    """All known debits of one account, in order. One that was just added counts for its amount only."""

    def __init__(self, demands: Demands) -> None:
        self._demands = demands
        self._top: _Leaf | _Branch = _Leaf(Table(U32))
        self._edge: list[_Leaf | _Branch] = [self._top]
        """Parts in which the newest stands, from its leaf upwards."""
        self._newest: int | None = None
        self._last: Order | None = None
        """Its order."""
        self._late: tuple[Order, Steps, _Leaf, int] | None = None
        """The way to the late debit that was added last, while it is known."""

    def __getstate__(self) -> tuple[Demands, Table]:
        """For a snapshot, one column: places in order, from which the rest follows."""
        places = Table(U32)
        for leaf in self._leaves():
            places.extend(leaf.places)
        return self._demands, places

    def __setstate__(self, state: tuple[Demands, Table]) -> None:
        demands, places = state
        self.__init__(demands)  # type: ignore[misc]
        parts: list[_Leaf | _Branch] = [
            _Leaf(Table(U32, places[at : at + PLACES])) for at in range(0, len(places), PLACES)
        ]
        while parts:
            for part in parts:
                part.sum_up(demands)
                part.ask(demands)
            if len(parts) == 1:
                self._top, self._newest, self._last = parts[0], places[-1], demands.order(places[-1])
                break
            parts = [_Branch(parts[at : at + PARTS]) for at in range(0, len(parts), PARTS)]
        self._follow_edge()

    @property
    def total(self) -> int:
        """Σ of all amounts."""
        return self._top.total

    def __iter__(self) -> Iterator[int]:
        for leaf in self._leaves():
            yield from leaf.places

    def _leaves(self) -> Iterator[_Leaf]:
        left = [self._top]
        while left:
            part = left.pop()
            if isinstance(part, _Leaf):
                yield part
            else:
                left += reversed(part.parts)

    def find(self, order: Order) -> int | None:
        """Place of the debit of this order; that there is no newer one is seen at once."""
        if self._is_last(order):
            return None
        _, leaf, rank = self._way(order)
        place = leaf.places[rank] if rank < len(leaf.places) else None
        return place if place is not None and self._demands.order(place) == order else None

    def add(self, place: int) -> bool:
        """Insert a debit of a new order; returns whether it stands last, which costs O(1)."""
        order, amount = self._demands.order(place), self._demands.amount(place)
        if is_last := self._is_last(order):
            self._newest, self._last = place, order
            leaf = self._edge[0]
            assert isinstance(leaf, _Leaf)
            leaf.places.append(place)
            for part in self._edge:
                part.total += amount
        else:
            self._late = None
            steps, leaf, rank = self._way(order)
            leaf.places.insert(rank, place)
            for part in _upwards(steps, leaf):
                part.sum_up(self._demands)
            self._late = order, steps, leaf, rank
        if leaf.is_full:
            self._split(order, at_end=is_last)
        return is_last

    def replace(self, place: int) -> None:
        """Put a debit where another of its order stands."""
        order = self._demands.order(place)
        steps, leaf, rank = self._way(order)
        leaf.places[rank] = place
        if order == self._last:
            self._newest = place
        self._measure(steps, leaf)

    def count(self, place: int) -> None:
        """A debit that was just added applies now, or waits."""
        demands = self._demands
        if not demands.applied(place):
            plain, funded = demands.asked((place,))
            for part, _ in self._before(place):
                part.asked = min(part.asked[0], plain), min(part.asked[1], funded)
            return
        declared = demands.declared(place)
        if place == self._newest:
            covered = declared + demands.amount(place)
            for part in self._edge:
                if covered - part.total < part.slack:
                    part.slack = covered - part.total
        else:
            for part, below in self._before(place):
                part.slack = min(part.slack, declared - below)

    def recount(self, place: int) -> None:
        """A debit that applied waits now, or the other way round."""
        steps, leaf, _ = self._way(self._demands.order(place))
        self._measure(steps, leaf)

    def below(self, place: int) -> int:
        """Σ of the amounts ranked before that debit."""
        if place == self._newest:
            return self.total - self._demands.amount(place)
        *_, (_, below) = self._before(place)
        return below

    def slack_after(self, place: int) -> int:
        """Of the applied debits ranked after that one, the lowest declared total less Σ of the amounts before it."""
        demands = self._demands
        steps, leaf, rank = self._way(demands.order(place))
        later = leaf.places[rank + 1 :]
        low, below = demands.slack(later), demands.amount(place) + demands.total(later)
        low -= demands.amount(place)
        for branch, index in reversed(steps):
            for part in branch.parts[index + 1 :]:
                low = min(low, part.slack - below)
                below += part.total
        return low - self.below(place)

    def asks_within(self, means: Means) -> bool:
        """Whether these means may cover one that waits; ``False`` is certain."""
        return self._top.within(0, means)

    def take(self, means: Means) -> list[int]:
        """Apply every waiting debit that these means cover and return them in order.

        Amounts add up: behind the first whose totals the means cover and whose amount they do not, none is covered. So
        no more than one part of each height is looked into in vain, for either means, but once where ``asked`` is old.
        """
        taken: list[int] = []
        self._take(self._top, 0, means, taken)
        return taken

    def _take(self, part: "_Leaf | _Branch", below: int, means: Means, taken: list[int]) -> None:
        if not part.within(below, means):
            return
        demands = self._demands
        if isinstance(part, _Branch):
            for child in part.parts:
                self._take(child, below, means, taken)
                below += child.total
        else:
            for place in part.places:
                amount = demands.amount(place)
                need = max(demands.declared(place), below) + amount
                if not demands.applied(place) and means[demands.on_credit(place)] >= need:
                    demands.apply(place)
                    taken.append(place)
                below += amount
        part.sum_up(demands)
        part.ask(demands)

    def _is_last(self, order: Order) -> bool:
        return self._last is None or order > self._last

    def _way(self, order: Order) -> tuple[Steps, _Leaf, int]:
        """To where ``order`` stands or would."""
        if self._late is not None and self._late[0] == order:
            return self._late[1:]
        key, steps, part = self._demands.order, Steps(), self._top
        while isinstance(part, _Branch):
            index = bisect(part.parts, order, 1, key=lambda part: key(part.first)) - 1
            steps.append((part, index))
            part = part.parts[index]
        return steps, part, bisect_left(part.places, order, key=key)

    def _before(self, place: int) -> Iterator[tuple[_Part, int]]:
        """Each part in which it stands, from its leaf upwards, and Σ of the amounts before it there."""
        steps, leaf, rank = self._way(self._demands.order(place))
        below = self._demands.total(leaf.places[:rank])
        yield leaf, below
        for branch, index in reversed(steps):
            below += sum(part.total for part in branch.parts[:index])
            yield branch, below

    def _measure(self, steps: Steps, leaf: _Leaf) -> None:
        for part in _upwards(steps, leaf):
            part.sum_up(self._demands)
            part.ask(self._demands)

    def _split(self, order: Order, *, at_end: bool) -> None:
        """Cut what is too full in two, from the leaf upwards. What grows at its end leaves full parts behind."""
        steps, leaf, _ = self._way(order)
        part: _Leaf | _Branch = leaf
        while part.is_full:
            right = part.split(at_end=at_end)
            right.asked = part.asked
            for half in (part, right):
                half.sum_up(self._demands)
            if steps:
                branch, index = steps.pop()
                branch.parts.insert(index + 1, right)
            else:
                branch = self._top = _Branch([part, right])
                branch.asked = part.asked
                branch.sum_up(self._demands)
            part = branch
        self._late = None
        self._follow_edge()

    def _follow_edge(self) -> None:
        self._edge = [self._top]
        while isinstance(part := self._edge[0], _Branch):
            self._edge.insert(0, part.parts[-1])


def _upwards(steps: Steps, leaf: _Leaf) -> Iterator[_Leaf | _Branch]:
    yield leaf
    for branch, _ in reversed(steps):
        yield branch
