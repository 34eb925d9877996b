"""Units are types; amounts are integers; rounding direction is part of each function's contract."""

from typing import NewType

Trm = NewType("Trm", int)
"""Tirami Resource Merit, the unit of account; the smallest amount is 1."""
MicroTrm = NewType("MicroTrm", int)
"""10⁻⁶ TRM: prices per token, never a balance."""
Flop = NewType("Flop", int)
TokenCount = NewType("TokenCount", int)
UnixMs = NewType("UnixMs", int)
"""Milliseconds since 1970-01-01 UTC."""
DAY_MS = 86_400_000
Ppm = NewType("Ppm", int)
"""Parts per million: rates and factors."""

MICRO = 1_000_000
FLOP_PER_TRM = 10**9
"""1 TRM stands for 10⁹ floating point operations of useful work (a unit of measure, not a price)."""


def ceil_div(numerator: int, denominator: int) -> int:
    """⌈numerator ÷ denominator⌉ for a positive denominator."""
    return -(-numerator // denominator)
