"""The closed form against the sum it stands for."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.market.scripted import CARD
from tirami.infer import flop

counts = st.integers(0, 400)


@given(st.integers(0, 10**12), st.integers(0, 200), st.integers(0, 20_000), counts, counts)
def test_the_closed_form_is_the_sum(active: int, layers: int, hidden: int, prompt: int, completion: int) -> None:
    card = replace(CARD, active_parameters=active, layers=layers, hidden=hidden)
    positions = range(1, prompt + completion + 1)
    assert flop(card, prompt, completion) == sum(2 * active + 4 * layers * hidden * c for c in positions)


@given(counts, counts)
def test_it_does_not_matter_which_side_a_token_is_on(prompt: int, completion: int) -> None:
    assert flop(CARD, prompt, completion) == flop(CARD, completion, prompt)


def test_smollm2_by_hand() -> None:
    card = replace(CARD, active_parameters=134_515_008, layers=30, hidden=576)
    assert flop(card, 0, 0) == 0
    assert flop(card, 1, 0) == 2 * 134_515_008 + 4 * 30 * 576
    assert flop(card, 10, 10) == 5_380_600_320 + 14_515_200


def test_experts_that_sleep_cost_nothing() -> None:
    card = replace(CARD, parameters=47 * 10**9, active_parameters=13 * 10**9, layers=0)
    assert flop(card, 1, 0) == 26 * 10**9
