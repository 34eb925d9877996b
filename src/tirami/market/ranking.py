"""Offers in the order of their scores, kept as they come: the best of ten thousand stands at the top.

Of a score (:func:`tirami.market.routing.schedule_score`) all but the capacity is known before a request is, and the
capacity is a factor of at most 1: so an offer stands by the score it has at most. Whoever reads from the top holds an
offer back until nothing below can exceed it, and has them in the exact order of their scores.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

Entry = tuple[int, bytes, int]
"""Minus the most it can score, whose it is, and which of its offers: ascending, the best is first."""
SCALE = 1 << 320
"""Scores as integers, quick to compare. Two different ones differ by at least 2⁻³²⁰: prices and costs are below 2⁶⁴."""


def fixed(score: Fraction) -> int:
    return score.numerator * SCALE // score.denominator


class Ranking:
    """Offers by what they are asked for: each stands in one list for every name it goes by."""

    def __init__(self) -> None:
        self._lists: dict[object, list[Entry]] = {}
        self._places: dict[bytes, list[tuple[object, Entry]]] = {}

    def put(self, key: bytes, offers: Sequence[tuple[Fraction, tuple[object, ...]]]) -> None:
        """The offers of one peer, instead of those before: the most each can score, and its names."""
        places: list[tuple[object, Entry]] = []
        for number, (most, names) in enumerate(offers):
            entry = -fixed(most), key, number
            places += [(name, entry) for name in names]
        if places == self._places.get(key):
            return
        self.drop(key)
        self._places[key] = places
        for name, entry in places:
            insort(self._lists.setdefault(name, []), entry)

    def drop(self, key: bytes) -> None:
        for name, entry in self._places.pop(key, ()):
            entries = self._lists[name]
            del entries[bisect_left(entries, entry)]
            if not entries:
                del self._lists[name]

    def read(self, name: object, score: Callable[[bytes, int], Fraction | None]) -> Iterator[tuple[bytes, int]]:
        """Peers and numbers of their offers, the best first, equals by the smaller key.

        Args:
            score: the exact one, never above what was put in; ``None`` for an offer that is left out.
        """
        held: list[Entry] = []
        for entry in list(self._lists.get(name, ())):
            while held and held[0] <= entry:
                yield heapq.heappop(held)[1:]
            exact = score(entry[1], entry[2])
            if exact is not None:
                heapq.heappush(held, (-fixed(exact), entry[1], entry[2]))
        while held:
            yield heapq.heappop(held)[1:]
