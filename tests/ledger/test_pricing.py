"""Prices: tiers, load, rounding; and a load that does not care how often it is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import MICRO, MicroTrm, Ppm, Trm, UnixMs
from tirami.ledger import UNITY, Price, Tier, price, raw_demand, smoothed, tier_of
from tirami.market import Load
from tirami.proto import amount_due

HALF_LIFE_MS = 1_800_000


@pytest.mark.parametrize(
    ("parameters", "tier"),
    [
        (1, Tier.SMALL),
        (3 * 10**9 - 1, Tier.SMALL),
        (3 * 10**9, Tier.MEDIUM),
        (14 * 10**9 - 1, Tier.MEDIUM),
        (14 * 10**9, Tier.LARGE),
        (70 * 10**9 - 1, Tier.LARGE),
        (70 * 10**9, Tier.FRONTIER),
        (10**12, Tier.FRONTIER),
    ],
)
def test_the_tier_is_the_size(parameters: int, tier: Tier) -> None:
    assert tier_of(parameters) is tier


def test_the_price_list() -> None:
    assert [price(tier, UNITY, Ppm(0)).completion // MICRO for tier in Tier] == [1, 3, 8, 20]


@pytest.mark.parametrize(
    ("demand", "prompt_ppm", "prompt", "completion"),
    [
        (1_000_000, 0, 0, 3_000_000),
        (1_000_000, 250_000, 750_000, 3_000_000),
        (500_000, 250_000, 375_000, 1_500_000),
        (3_000_000, 1_000_000, 9_000_000, 9_000_000),
        (1_000_001, 333_333, 1_000_000, 3_000_003),
        (1_000_001, 1, 4, 3_000_003),
    ],
)
def test_load_and_prompt_share_move_the_price_and_it_rounds_up(
    demand: int, prompt_ppm: int, prompt: int, completion: int
) -> None:
    assert price(Tier.MEDIUM, Ppm(demand), Ppm(prompt_ppm)) == Price(MicroTrm(prompt), MicroTrm(completion))


@pytest.mark.parametrize(
    ("running", "waiting", "slots", "demand"),
    [
        (0, 0, 4, 500_000),
        (2, 0, 4, 500_000),
        (3, 0, 4, 750_000),
        (4, 0, 4, 1_000_000),
        (1, 0, 3, 500_000),
        (2, 0, 3, 666_666),
        (4, 6, 4, 2_500_000),
        (4, 8, 4, 3_000_000),
        (4, 9_999, 4, 3_000_000),
        (0, 0, 0, 500_000),
        (5, 0, 0, 3_000_000),
    ],
)
def test_demand_is_clamped(running: int, waiting: int, slots: int, demand: int) -> None:
    assert raw_demand(running, waiting, slots) == demand


@pytest.mark.parametrize(
    ("elapsed", "demand"), [(0, 1_000_000), (1, 1_250_000), (2, 1_375_000), (3, 1_437_500), (39, 1_500_000)]
)
def test_after_a_half_life_half_of_the_way_is_gone(elapsed: int, demand: int) -> None:
    assert smoothed(UNITY, Ppm(1_500_000), elapsed * HALF_LIFE_MS, HALF_LIFE_MS) == demand


def test_a_clock_set_back_changes_nothing() -> None:
    assert smoothed(Ppm(777_777), Ppm(3_000_000), -5_000, HALF_LIFE_MS) == 777_777


@given(st.integers(500_000, 3_000_000), st.integers(500_000, 3_000_000), st.lists(st.integers(0, 10**7), max_size=20))
def test_the_average_follows_elapsed_time_and_not_the_number_of_questions(
    before: int, raw: int, pauses: list[int]
) -> None:
    """Each step rounds demand to a millionth and time to 2⁻²⁰ half-lives; that is all the difference there is."""
    once = smoothed(Ppm(before), Ppm(raw), sum(pauses), HALF_LIFE_MS)
    demand = Ppm(before)
    for pause in pauses:
        demand = smoothed(demand, Ppm(raw), pause, HALF_LIFE_MS)
    assert abs(demand - once) <= 2.2 * (len(pauses) + 1)


def test_asking_the_price_moves_nothing() -> None:
    loads = [Load(follow=True, half_life_ms=HALF_LIFE_MS, prompt_ppm=Ppm(0)) for _ in range(2)]
    for second in range(100):
        for load, questions in zip(loads, (1, 50), strict=True):
            load.observe(8, 8, 4, UnixMs(second * 1000))
            assert len({load.price(10**9) for _ in range(questions)}) == 1
    assert loads[0].demand == loads[1].demand > UNITY


def test_a_load_watched_every_second_and_every_minute_is_the_same() -> None:
    demands = []
    for every in (1, 60, 3_600):
        load = Load(follow=True, half_life_ms=HALF_LIFE_MS, prompt_ppm=Ppm(0))
        for second in range(0, 3_601, every):
            load.observe(8, 4, 4, UnixMs(second * 1000))
        demands.append(load.demand)
    assert demands[2] == 2_500_000
    assert max(demands) - min(demands) < 0.001 * MICRO, demands


def test_a_price_that_does_not_follow_load_stands_still() -> None:
    load = Load(follow=False, half_life_ms=1, prompt_ppm=Ppm(500_000))
    for second in range(10):
        load.observe(99, 99, 1, UnixMs(second * 1000))
    assert load.price(10**9) == Price(MicroTrm(500_000), MicroTrm(1_000_000))


@given(st.integers(0, 3_000_000), st.integers(1, 60_000_000), st.integers(0, 4_096), st.integers(0, 100_000))
def test_tokens_within_an_amount_are_as_many_as_fit(prompt: int, completion: int, read: int, amount: int) -> None:
    most = Price(MicroTrm(prompt), MicroTrm(completion)).tokens_within(Trm(amount), read)
    if most >= 1:
        assert amount_due(prompt, completion, read, most) <= max(amount, 1)
    if most >= 0:
        assert amount_due(prompt, completion, read, most + 1) > amount or amount == 0
    else:
        assert prompt * read > amount * MICRO


@pytest.mark.parametrize(
    ("prompt", "completion", "read", "written", "due"),
    [
        (1_000_000, 1_000_000, 100, 0, 0),
        (0, 1, 0, 1, 1),
        (0, 1_000_000, 9, 7, 7),
        (250_000, 1_000_000, 3, 7, 8),
        (250_000, 1_000_000, 4, 7, 8),
        (250_000, 1_000_000, 5, 7, 9),
        (0, 1_000_001, 0, 1, 2),
    ],
)
def test_a_bill_rounds_up_once(prompt: int, completion: int, read: int, written: int, due: int) -> None:
    assert amount_due(prompt, completion, read, written) == due
