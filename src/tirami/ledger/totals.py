"""Numbered amounts, and how much each total of their payer leaves: range-add and range-minimum over numbers.

A binary search tree over the numbers, kept in balance by rebuilding the part that leans (Galperin and Rivest,
"Scapegoat Trees", 1993): no number a payer can choose makes it deep. Every operation is O(log n), amortised.
"""

from collections.abc import Iterator

UNSTATED = 1 << 200
"""Slack of a number without totals: beyond anything amounts can add up to."""
_LEAN = 0.7


class _Node:
    """``add`` counts for the slack of the node and of all below it."""

    __slots__ = ("add", "amount", "left", "low", "number", "right", "size", "slack", "sum")

    def __init__(self, number: int, amount: int = 0, slack: int = UNSTATED) -> None:
        self.number, self.amount, self.slack = number, amount, slack
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.size, self.sum, self.low, self.add = 1, amount, slack, 0

    def measure(self) -> None:
        """Size, sum and minimum from those of the children."""
        size, total, low = 1, self.amount, self.slack
        for child in (self.left, self.right):
            if child is not None:
                size += child.size
                total += child.sum
                if child.low < low:
                    low = child.low
        self.size, self.sum, self.low = size, total, low + self.add

    @property
    def leans(self) -> bool:
        return any(child is not None and child.size > _LEAN * self.size + 1 for child in (self.left, self.right))


class Totals:
    """Amount and slack by number. The slack of a total is S − Σ amounts below it that it has to cover."""

    def __init__(self) -> None:
        self._root: _Node | None = None
        self._discarded = 0

    def __len__(self) -> int:
        return self._root.size if self._root else 0

    def below(self, number: int) -> int:
        """Σ amounts of smaller numbers."""
        total, node = 0, self._root
        while node is not None:
            if node.number < number:
                total += node.amount + (node.left.sum if node.left else 0)
                node = node.right
            else:
                node = node.left
        return total

    def raise_amount(self, number: int, more: int) -> None:
        """The amount grows by ``more`` (or shrinks). What that means for totals is :meth:`shift`'s."""
        path = self._path(number)
        path[-1].amount += more
        self._measure(path)

    def shift(self, after: int, more: int) -> None:
        """The slack of every number larger than ``after``, which is known, grows by ``more`` (or shrinks)."""
        path = self._path(after)
        for node in path:
            if node.number >= after and node.right is not None:
                node.right.add += more
                node.right.low += more
            if node.number > after:
                node.slack += more
        self._measure(path)

    def state(self, number: int, slack: int) -> None:
        """A total stands at ``number``, or none any more (:data:`UNSTATED`)."""
        path = self._path(number)
        path[-1].slack = slack - sum(node.add for node in path)
        self._measure(path)

    def discard(self, number: int) -> None:
        """Forget a number that has neither amount nor total any more."""
        self.state(number, UNSTATED)
        self._discarded += 1
        if 2 * self._discarded > len(self):
            kept = [(n, amount, slack) for n, amount, slack in _walk(self._root) if amount or slack < UNSTATED // 2]
            self._root, self._discarded = _built(kept), 0

    def lowest(self) -> tuple[int, int]:
        """The smallest slack and its number; :data:`UNSTATED` or nearly and any number when there is no total."""
        if self._root is None:
            return UNSTATED, 0
        node, slack = self._root, self._root.low
        while True:
            wanted = node.low - node.add
            if node.slack == wanted:
                return slack, node.number
            follower = node.left if node.left is not None and node.left.low == wanted else node.right
            assert follower is not None
            node = follower

    def _path(self, number: int) -> list[_Node]:
        """From the root to the node of this number, which is made when there is none."""
        if self._root is None:
            self._root = _Node(number)
        path = [self._root]
        while (node := path[-1]).number != number:
            child = node.left if number < node.number else node.right
            if child is None:
                child = _Node(number)
                if number < node.number:
                    node.left = child
                else:
                    node.right = child
                path.append(child)
                self._measure(path)
                return self._balanced(path)
            path.append(child)
        return path

    def _balanced(self, path: list[_Node]) -> list[_Node]:
        """The path to the same number after the highest part that leans was rebuilt."""
        place = next((place for place, node in enumerate(path) if node.leans), None)
        if place is None:
            return path
        built = _built(list(_walk(path[place])))
        if place == 0:
            self._root = built
        elif path[place - 1].left is path[place]:
            path[place - 1].left = built
        else:
            path[place - 1].right = built
        self._measure(path[:place])
        return self._path(path[-1].number)

    @staticmethod
    def _measure(path: list[_Node]) -> None:
        for node in reversed(path):
            node.measure()


def _walk(node: _Node | None, add: int = 0) -> Iterator[tuple[int, int, int]]:
    """(number, amount, slack) in order; slack as seen from above ``node``."""
    if node is not None:
        add += node.add
        yield from _walk(node.left, add)
        yield node.number, node.amount, node.slack + add
        yield from _walk(node.right, add)


def _built(entries: list[tuple[int, int, int]]) -> _Node | None:
    if not entries:
        return None
    middle = len(entries) // 2
    node = _Node(*entries[middle])
    node.left, node.right = _built(entries[:middle]), _built(entries[middle + 1 :])
    node.measure()
    return node
