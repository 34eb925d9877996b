"""Routing: the vectors of spec 02 §8 and spec 04 §8.6, exactly; no choice depends on order."""

from fractions import Fraction
from itertools import permutations

import pytest

from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, MicroTrm, Ppm, Trm
from tirami.ledger import Price
from tirami.market import Candidate, RouteMode, best, route_score, schedule_score


def candidate(
    multiplier: Fraction | int = 1,
    reputation: float = 0.5,
    latency: int = 0,
    available: int | None = None,
    key: int = 1,
) -> Candidate:
    price = Price(MicroTrm(0), MicroTrm(int(multiplier * MICRO)))
    held = None if available is None else Trm(available)
    return Candidate(
        PublicKey(bytes([key]) * 32), price, MicroTrm(MICRO), Ppm(round(reputation * MICRO)), latency, held
    )


@pytest.mark.parametrize(
    ("found", "tokens", "cost", "score"),
    [
        (candidate(Fraction(1, 2), 0.5, 500, 10_000), 100, 50, Fraction(2, 3)),
        (candidate(2, 0.5, 500, 10_000), 100, 200, Fraction(1, 6)),
        (candidate(1, 0.8, 420, 40), 100, 100, Fraction(8, 10) * Fraction(1000, 1420) * Fraction(4, 10)),
        (candidate(1, 0.9, 100, 1_000), 100, 100, Fraction(9, 11)),
        (candidate(Fraction(4, 5), 0.5, 120, 1_000), 100, 80, Fraction(1, 2) * Fraction(5, 4) * Fraction(1000, 1120)),
        (candidate(Fraction(5, 4), 0.5, 500, 1_000), 100, 125, Fraction(4, 15)),
        (candidate(1, 0.5), 100, 100, Fraction(1, 2)),
        (candidate(1, 0.5, 0, 0), 100, 100, Fraction(0)),
    ],
)
def test_schedule_vectors(found: Candidate, tokens: int, cost: int, score: Fraction) -> None:
    assert found.cost(0, tokens) == cost
    assert schedule_score(found, Trm(cost)) == score


@pytest.mark.parametrize(
    ("multiplier", "reputation", "mode", "score"),
    [
        (Fraction(3, 2), 0.5, RouteMode.COST, Fraction(-9, 10)),
        (Fraction(3, 2), 0.5, RouteMode.BALANCED, Fraction(-1, 2)),
        (Fraction(3, 2), 0.5, RouteMode.QUALITY, Fraction(-1, 10)),
        (Fraction(11, 10), 0.9, RouteMode.COST, Fraction(-1, 2)),
        (Fraction(11, 10), 0.9, RouteMode.BALANCED, Fraction(-1, 10)),
        (Fraction(11, 10), 0.9, RouteMode.QUALITY, Fraction(3, 10)),
    ],
)
def test_route_vectors(multiplier: Fraction, reputation: float, mode: RouteMode, score: Fraction) -> None:
    assert route_score(candidate(multiplier, reputation), mode) == score


def test_the_best_does_not_depend_on_order_and_equals_go_to_the_smaller_key() -> None:
    equal = [candidate(key=3), candidate(key=1), candidate(key=2), candidate(2, key=0)]
    chosen = {best(order, lambda found: schedule_score(found, Trm(10))) for order in permutations(equal)}
    assert chosen == {equal[1]}
    assert best([], lambda found: schedule_score(found, Trm(10))) is None


def test_modes_choose_differently() -> None:
    cheap, good = candidate(Fraction(1, 2), 0.3, key=1), candidate(Fraction(6, 5), 0.95, key=2)
    picks = {mode: best([cheap, good], lambda found, mode=mode: route_score(found, mode)) for mode in RouteMode}  # type: ignore[misc]
    assert (picks[RouteMode.COST], picks[RouteMode.QUALITY]) == (cheap, good)
