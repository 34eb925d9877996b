"""Routing: the vectors of spec 02 §8, exactly; the weights of API-11; no choice depends on order."""

from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, MicroTrm, Ppm, Trm
from tirami.ledger import Price
from tirami.market import Candidate, RouteMode, best, route_score, schedule_score, shown


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
    ("mode", "weights"), [(RouteMode.COST, (3, 7)), (RouteMode.BALANCED, (5, 5)), (RouteMode.QUALITY, (7, 3))]
)
def test_a_routes_weights_are_exponents(mode: RouteMode, weights: tuple[int, int]) -> None:
    found = candidate(Fraction(5, 4), 0.5, 500, 50)
    quality, price = weights
    expected = Fraction(1, 2) ** quality * Fraction(4, 5) ** price * Fraction(2, 3) ** 5 * Fraction(4, 10) ** 5
    # reputation, cheapness, nearness, capacity: 125 TRM for 100 tokens, and it can take 50
    assert route_score(found, mode, Trm(125)) == expected
    assert shown(expected) == pytest.approx(float(expected) ** 0.2, abs=1e-6)


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 100), st.integers(0, 3000), st.none() | st.integers(0, 200)),
        min_size=1,
        max_size=8,
    )
)
def test_equal_weights_are_the_schedulers_own_answer(
    nodes: list[tuple[int, int, int, int | None]],
) -> None:
    found = [
        candidate(Fraction(multiplier, 100), reputation / 100, latency, available, key)
        for key, (multiplier, reputation, latency, available) in enumerate(nodes)
    ]
    by_schedule = best(found, lambda each: schedule_score(each, each.cost(0, 100)))
    by_route = best(found, lambda each: route_score(each, RouteMode.BALANCED, each.cost(0, 100)))
    assert by_route is by_schedule
    assert by_route is not None
    cost = by_route.cost(0, 100)
    score = float(schedule_score(by_route, cost))
    assert shown(route_score(by_route, RouteMode.BALANCED, cost)) == pytest.approx(score, abs=1e-6)


def test_the_best_does_not_depend_on_order_and_equals_go_to_the_smaller_key() -> None:
    equal = [candidate(key=3), candidate(key=1), candidate(key=2), candidate(2, key=0)]
    chosen = {best(order, lambda found: schedule_score(found, Trm(10))) for order in permutations(equal)}
    assert chosen == {equal[1]}
    assert best([], lambda found: schedule_score(found, Trm(10))) is None


def test_modes_choose_differently() -> None:
    cheap, good = candidate(Fraction(1, 2), 0.3, key=1), candidate(Fraction(6, 5), 0.95, key=2)
    picks = {mode: best([cheap, good], lambda found, mode=mode: route_score(found, mode, Trm(1))) for mode in RouteMode}  # type: ignore[misc]
    assert (picks[RouteMode.COST], picks[RouteMode.QUALITY]) == (cheap, good)
