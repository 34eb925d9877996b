"""What follows from how much was issued: epoch, yield, mint rate, fee (spec 08 §3.2, §3.4).

Pure and exact: integers and fractions; a float exists only where somebody prints one. None of these numbers moves
money by itself.
"""

from fractions import Fraction

from tirami.core.units import Trm
from tirami.ledger.pricing import Tier
from tirami.proto.network import CAP

FINAL_EPOCH = 35
"""Once nothing is left to issue: one more than one TRM before the cap, so that epochs never fall."""
GENESIS_YIELD = Fraction(1, 1000)
"""Yield of an hour in epoch 0."""
RARITY = {Tier.SMALL: Fraction(1), Tier.MEDIUM: Fraction(3, 2), Tier.LARGE: Fraction(3), Tier.FRONTIER: Fraction(10)}


def remaining(minted: Trm) -> Trm:
    """What can still be issued, within [0, cap]."""
    return Trm(min(max(CAP - minted, 0), CAP))


def supply_factor(minted: Trm) -> Fraction:
    """1 − minted ÷ cap, within [0, 1]."""
    return Fraction(remaining(minted), CAP)


def epoch_of(minted: Trm) -> int:
    """⌊log₂(cap ÷ remaining)⌋: epoch k begins when 1 − 2⁻ᵏ of the cap is issued. Never falls (I-13)."""
    left = remaining(minted)
    return (CAP // left).bit_length() - 1 if left else FINAL_EPOCH


def yield_rate(minted: Trm) -> Fraction:
    """Yield of an hour: a thousandth, halved with every epoch."""
    return GENESIS_YIELD / (1 << epoch_of(minted))


def mint_rate(tier: Tier, minted: Trm) -> Fraction:
    """TRM a token a work subsidy would mint: tier · rarity · supply factor. Nobody is paid it (Q-01)."""
    return tier.value * RARITY[tier] * supply_factor(minted)


def fee_active(minted: Trm) -> bool:
    """Whether at most a tenth is left to issue, compared in integers."""
    return 10 * remaining(minted) <= CAP


def transaction_fee(amount: Trm, minted: Trm) -> Trm:
    """1 % on top of the price, rounded down, while :func:`fee_active`; else nothing."""
    return Trm(amount // 100) if fee_active(minted) else Trm(0)
