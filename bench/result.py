"""One measured figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

NO_GOAL = "reported"
"""The goal of a figure that is only told."""


@dataclass(frozen=True, slots=True)
class Result:
    """``spread`` is (maximum − minimum) ÷ median of the runs; ``goal`` is a bound in words."""

    name: str
    value: float
    unit: str
    goal: str
    met: bool
    runs: int
    spread: float


def measured(
    name: str, values: Sequence[float], unit: str, *, least: float | None = None, most: float | None = None
) -> Result:
    """The median of several runs, held against a bound."""
    middle = median(values)
    goal = f"≥ {least}" if least is not None else f"≤ {most}" if most is not None else NO_GOAL
    met = (least is None or middle >= least) and (most is None or middle <= most)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return Result(name, round(middle, 4), unit, goal, met, len(values), round(spread, 3))


def skipped(name: str, reason: str) -> Result:
    """What could not be measured here, and why. It counts as a miss: nothing was shown."""
    return Result(f"{name} (not measured: {reason})", 0.0, "", NO_GOAL, False, 0, 0.0)
