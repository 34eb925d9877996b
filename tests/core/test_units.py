"""Integer units and their rounding."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import FLOP_PER_TRM, MICRO, ceil_div


@given(st.integers(-(2**200), 2**200), st.integers(1, 2**100))
def test_ceil_div_rounds_up_exactly(numerator: int, denominator: int) -> None:
    assert ceil_div(numerator, denominator) == ceil(Fraction(numerator, denominator))


@pytest.mark.parametrize(("numerator", "result"), [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)])
def test_charges_round_up(numerator: int, result: int) -> None:
    assert ceil_div(numerator, MICRO) == result


def test_the_reference_value() -> None:
    assert FLOP_PER_TRM == 1_000_000_000
