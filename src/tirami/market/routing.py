"""Who serves: providers compared by price, reputation, latency and what they can still take (spec 02 §8, spec 04 §8.6).

Pure and exact; equal scores go to the smaller key, so that the choice never depends on an order of arrival. A node
alone has one candidate, itself; the mesh brings the others.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, MicroTrm, Ppm, Trm
from tirami.ledger import Price
from tirami.proto import amount_due

MULTIPLIER_FLOOR = Fraction(1, 100)


class RouteMode(StrEnum):
    """What matters more; weights of reputation and of price are ``WEIGHTS``."""

    COST = "cost"
    BALANCED = "balanced"
    QUALITY = "quality"


WEIGHTS = {
    RouteMode.COST: (Fraction(3, 10), Fraction(7, 10)),
    RouteMode.BALANCED: (Fraction(1, 2), Fraction(1, 2)),
    RouteMode.QUALITY: (Fraction(7, 10), Fraction(3, 10)),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that serves the model in question.

    Attributes:
        price: what it asks now.
        list_price: µTRM an output token of this model's tier, load aside: what the price is measured by.
        reputation: 0 … 10⁶.
        latency_ms: smoothed time to reach it; 0 for this node.
        available: TRM of work it can still take; ``None`` when it sets no bound.
    """

    provider: PublicKey
    price: Price
    list_price: MicroTrm
    reputation: Ppm
    latency_ms: int = 0
    available: Trm | None = None

    @property
    def multiplier(self) -> Fraction:
        """Its price relative to the list."""
        return Fraction(self.price.completion, self.list_price)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Trm:
        return amount_due(self.price.prompt, self.price.completion, prompt_tokens, completion_tokens)


Ratio = tuple[int, int]


def schedule_score(candidate: Candidate, cost: Trm) -> Fraction:
    """reputation · 1/multiplier · 1/(1 + latency/1000 ms) · min(1, available/cost)."""
    above, below = zip(*_factors(candidate, cost), strict=True)
    return Fraction(math.prod(above), math.prod(below))  # reduced once, not at each step: thousands are ranked


def _factors(candidate: Candidate, cost: Trm) -> tuple[Ratio, Ratio, Ratio, Ratio]:
    """Reputation, cheapness, nearness, capacity."""
    lowest, of = MULTIPLIER_FLOOR.as_integer_ratio()
    listed = candidate.list_price
    capacity = (1, 1)
    if candidate.available is not None and cost > 0:
        capacity = (min(max(candidate.available, 0), cost), cost)
    return (
        (candidate.reputation, MICRO),
        (listed * of, max(candidate.price.completion * of, listed * lowest)),
        (1000, 1000 + max(candidate.latency_ms, 0)),
        capacity,
    )


def route_score(candidate: Candidate, mode: RouteMode, cost: Trm) -> Fraction:
    """Fifth power of reputation^2w · (1/multiplier)^2v · nearness · capacity, with the weights w, v of ``mode``.

    Weights are exponents, so that equal ones give the scheduler's own score; the fifth power keeps it exact.
    """
    quality, price = WEIGHTS[mode]
    reputation, cheapness, nearness, capacity = (Fraction(*ratio) for ratio in _factors(candidate, cost))
    weighed = reputation ** int(10 * quality) * cheapness ** int(10 * price)
    return weighed * nearness**5 * capacity**5


def shown(route: Fraction) -> float:
    """A :func:`route_score` as people see it: on the scale of the scheduler's."""
    return round(math.pow(route, 0.2), 6)


def best(candidates: Iterable[Candidate], score: Callable[[Candidate], Fraction]) -> Candidate | None:
    """The one with the highest score, of equals the one with the smaller key; ``None`` when there is none."""
    return min(candidates, key=lambda candidate: (-score(candidate), candidate.provider), default=None)
