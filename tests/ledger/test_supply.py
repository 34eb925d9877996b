"""Supply: the tables of spec 08 §3.2 and §3.4, exactly, and what must hold between them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.units import Trm
from tirami.ledger import Tier
from tirami.ledger.supply import (
    FINAL_EPOCH,
    epoch_of,
    fee_active,
    mint_rate,
    remaining,
    supply_factor,
    transaction_fee,
    yield_rate,
)
from tirami.proto.network import CAP

minted = st.integers(0, CAP) | st.integers(CAP - 10**6, CAP)


@pytest.mark.parametrize(
    ("m", "factor", "epoch"),
    [
        (0, Fraction(1), 0),
        (1, 1 - Fraction(1, CAP), 0),
        (10_499_999_999, None, 0),
        (10_500_000_000, Fraction(1, 2), 1),
        (15_749_999_999, None, 1),
        (15_750_000_000, Fraction(1, 4), 2),
        (18_375_000_000, Fraction(1, 8), 3),
        (18_900_000_000, Fraction(1, 10), 3),
        (19_950_000_000, Fraction(1, 20), 4),
        (20_790_000_000, Fraction(1, 100), 6),
        (20_999_999_990, None, 30),
        (20_999_999_996, None, 32),
        (20_999_999_998, None, 33),
        (20_999_999_999, None, 34),
        (21_000_000_000, Fraction(0), FINAL_EPOCH),
    ],
)
def test_the_table(m: int, factor: Fraction | None, epoch: int) -> None:
    assert epoch_of(Trm(m)) == epoch
    assert yield_rate(Trm(m)) == Fraction(1, 1000 * 2**epoch)
    if factor is not None:
        assert supply_factor(Trm(m)) == factor


def test_epoch_boundaries_are_exact() -> None:
    for epoch in range(1, 10):
        begins = CAP - CAP // 2**epoch
        assert (epoch_of(Trm(begins)), epoch_of(Trm(begins - 1))) == (epoch, epoch - 1)


@given(minted, minted)
def test_epochs_never_fall_and_factors_never_rise(a: int, b: int) -> None:
    low, high = Trm(min(a, b)), Trm(max(a, b))
    assert epoch_of(low) <= epoch_of(high)
    assert supply_factor(low) >= supply_factor(high)
    assert yield_rate(low) >= yield_rate(high) > 0
    assert fee_active(high) or not fee_active(low)


@given(st.integers(-(2**70), 2**70))
def test_nothing_leaves_its_bounds(m: int) -> None:
    assert 0 <= remaining(Trm(m)) <= CAP
    assert 0 <= supply_factor(Trm(m)) <= 1


def test_mint_rates() -> None:
    for m, rates in (
        (0, (1, Fraction(9, 2), 24, 200)),
        (10_500_000_000, (Fraction(1, 2), Fraction(9, 4), 12, 100)),
        (CAP, (0, 0, 0, 0)),
    ):
        assert tuple(mint_rate(tier, Trm(m)) for tier in Tier) == rates


@pytest.mark.parametrize(
    ("amount", "m", "fee"),
    [
        (10_000, 18_900_000_000, 100),
        (99, 18_900_000_000, 0),
        (1_000, 18_899_999_999, 0),
        (0, CAP, 0),
        (100_000, 19_950_000_000, 1_000),
    ],
)
def test_the_fee_begins_at_a_tenth_and_rounds_down(amount: int, m: int, fee: int) -> None:
    assert transaction_fee(Trm(amount), Trm(m)) == fee
