"""Interleaved pairs: A B A B …, so that a machine whose speed drifts drifts for both."""

from collections.abc import Awaitable, Callable

PAIRS = 15
Measure = Callable[[], Awaitable[float]]


async def ratios(a: Measure, b: Measure, pairs: int = PAIRS) -> list[float]:
    """a ÷ b of each pair; every other pair runs b first. One pair before is thrown away."""
    await a(), await b()
    result = []
    for pair in range(pairs):
        if pair % 2:
            below = await b()
            above = await a()
        else:
            above = await a()
            below = await b()
        result.append(above / below)
    return result
