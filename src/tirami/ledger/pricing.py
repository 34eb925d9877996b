"""Price of a token: tier × load, integers of µTRM (spec 08 §3.3, RULINGS "Price").

The tier list is the price list; 1 TRM = 10⁹ FLOP is a unit of measure reported beside it (R-09). Load moves the
price through an exponential average over *elapsed time*, so how often it is asked does not matter (R-31).
"""

from dataclasses import dataclass
from enum import Enum
from math import isqrt

from tirami.core.units import MICRO, MicroTrm, Ppm, Trm, ceil_div

DEMAND_FLOOR = Ppm(500_000)
DEMAND_CEILING = Ppm(3_000_000)
UNITY = Ppm(MICRO)
DEMAND_BOUNDS = (DEMAND_FLOOR, DEMAND_CEILING)
SUPPLY_BOUNDS = (Ppm(500_000), Ppm(2_000_000))
"""Active providers ÷ known nodes stay within these once there are peers."""
SUPPLY_FACTOR = UNITY
"""Without peers."""
_HALVING_STEPS = 1 << 20
"""Resolution of the fixed-point half-life: fractions of one half-life are looked up in 2⁻²⁰."""


class Tier(Enum):
    """Price class by parameters touched per token: TRM a token, and the first size of the next class."""

    SMALL = 1
    MEDIUM = 3
    LARGE = 8
    FRONTIER = 20


def tier_of(active_parameters: int) -> Tier:
    """< 3·10⁹ small, < 14·10⁹ medium, < 70·10⁹ large, else frontier; a mixture of experts by its active part."""
    for bound, tier in ((3 * 10**9, Tier.SMALL), (14 * 10**9, Tier.MEDIUM), (70 * 10**9, Tier.LARGE)):
        if active_parameters < bound:
            return tier
    return Tier.FRONTIER


@dataclass(frozen=True, slots=True)
class Price:
    """µTRM a token, for tokens read and tokens written."""

    prompt: MicroTrm
    completion: MicroTrm

    def tokens_within(self, amount: Trm, prompt_tokens: int) -> int:
        """The most completion tokens that cost at most ``amount``; negative when the prompt alone costs more."""
        return (amount * MICRO - self.prompt * prompt_tokens) // self.completion


def price(tier: Tier, demand: Ppm, prompt_ppm: Ppm) -> Price:
    """Rounds up, at least 1 µTRM a token written. The supply factor is 1 without peers."""
    completion = max(1, ceil_div(tier.value * MICRO * demand, MICRO))
    return Price(MicroTrm(ceil_div(completion * prompt_ppm, MICRO)), MicroTrm(completion))


def raw_demand(running: int, waiting: int, slots: int) -> Ppm:
    """(running + waiting) ÷ slots, clamped to [0.5, 3.0]."""
    return Ppm(min(max((running + waiting) * MICRO // max(slots, 1), DEMAND_FLOOR), DEMAND_CEILING))


def smoothed(previous: Ppm, raw: Ppm, elapsed_ms: int, half_life_ms: int) -> Ppm:
    """EMA by elapsed time: ``previous`` keeps weight 2^(−elapsed/half-life). Rounds to nearest."""
    halvings, rest = divmod(max(elapsed_ms, 0), half_life_ms)
    if halvings >= 40:
        return raw
    weight = _half_power(rest * _HALVING_STEPS // half_life_ms) >> halvings
    return Ppm(raw + (((previous - raw) * weight + (1 << 61)) >> 62))


def _half_power(fraction: int) -> int:
    """2^(−fraction/2²⁰) as a fixed-point number with 62 fractional bits, from repeated integer square roots."""
    result, root = 1 << 62, 1 << 61
    for bit in range(19, -1, -1):
        root = isqrt(root << 62)
        if fraction >> bit & 1:
            result = result * root >> 62
    return result
