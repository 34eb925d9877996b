"""What the owner lets the node's agent do. Fractions are parts per million, so that no float stands near money."""

from dataclasses import dataclass
from typing import Final

from tirami.core.errors import InvalidField
from tirami.core.units import MICRO, Ppm, Trm

STAKED: Final = Ppm(900_000)
"""The one value of ``auto_stake_fraction``."""
FILTERS: Final = ("none", "default")
"""Content filters there are; neither filters anything."""
_FRACTIONS: Final = ("auto_stake_fraction", "idle_utilization_threshold", "min_peer_reputation")


@dataclass(frozen=True, slots=True)
class Preferences:
    """Nine fields; the defaults hold until the owner sets others.

    Attributes:
        daily_spend_limit_trm: the most the agent spends a day (UTC).
        per_task_budget_trm: the most one task may cost.
        auto_earn_enabled: whether others are served.
        auto_spend_enabled: whether anything is bought without asking.
        auto_stake_fraction: shown as the original has it; there is no staking yet, so no other value is taken.
        idle_utilization_threshold: share of the places in use up to which the node counts as idle.
        idle_grace_seconds: how long it has been so before it counts.
        min_peer_reputation: who has less is not served.
        content_filter: ``none`` or ``default``, which mean the same: there are no filters yet.
    """

    daily_spend_limit_trm: Trm = Trm(20)
    per_task_budget_trm: Trm = Trm(15)
    auto_earn_enabled: bool = True
    auto_spend_enabled: bool = True
    auto_stake_fraction: Ppm = STAKED
    idle_utilization_threshold: Ppm = Ppm(200_000)
    idle_grace_seconds: int = 60
    min_peer_reputation: Ppm = Ppm(300_000)
    content_filter: str = "default"

    def __post_init__(self) -> None:
        """Raises ``InvalidField`` naming the first field that is wrong."""
        for field in _FRACTIONS:
            if not 0 <= getattr(self, field) <= MICRO:
                raise InvalidField(f"{field} is a fraction between 0 and 1", param=field)
        for field in ("daily_spend_limit_trm", "per_task_budget_trm", "idle_grace_seconds"):
            if getattr(self, field) < 0:
                raise InvalidField(f"{field} must not be negative", param=field)
        if self.per_task_budget_trm > self.daily_spend_limit_trm:
            message = f"one task may not cost more than a day's {self.daily_spend_limit_trm} TRM"
            raise InvalidField(message, param="per_task_budget_trm")
        if self.auto_stake_fraction != STAKED:
            raise InvalidField("there is no staking yet, so nothing would follow from it", param="auto_stake_fraction")
        if self.content_filter not in FILTERS:
            message = f"there are no content filters yet: it must be one of {', '.join(FILTERS)}"
            raise InvalidField(message, param="content_filter")
