"""What the owner may set, and which field is named when it may not be (B8.1)."""

from dataclasses import replace
from typing import Any

import pytest

from tirami.core.errors import InvalidField
from tirami.mind import Preferences


def test_defaults_are_the_originals() -> None:
    default = Preferences()
    assert (default.daily_spend_limit_trm, default.per_task_budget_trm) == (20, 15)
    assert default.auto_earn_enabled and default.auto_spend_enabled
    fractions = (default.auto_stake_fraction, default.idle_utilization_threshold, default.min_peer_reputation)
    assert fractions == (900_000, 200_000, 300_000)
    assert (default.idle_grace_seconds, default.content_filter) == (60, "default")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"auto_stake_fraction": 1_500_000}, "auto_stake_fraction"),
        ({"auto_stake_fraction": -100_000}, "auto_stake_fraction"),
        ({"idle_utilization_threshold": 1_000_001}, "idle_utilization_threshold"),
        ({"min_peer_reputation": 2_000_000}, "min_peer_reputation"),
        ({"per_task_budget_trm": 100}, "per_task_budget_trm"),
        ({"daily_spend_limit_trm": 14}, "per_task_budget_trm"),
        ({"daily_spend_limit_trm": -1}, "daily_spend_limit_trm"),
        ({"idle_grace_seconds": -1}, "idle_grace_seconds"),
        ({"content_filter": "whatever"}, "content_filter"),
        ({"content_filter": "strict"}, "content_filter"),
        ({"auto_stake_fraction": 500_000}, "auto_stake_fraction"),
    ],
)
def test_what_is_wrong_or_without_effect_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        replace(Preferences(), **changed)
    assert refused.value.param == field


def test_fractions_come_before_budgets_and_budgets_before_the_filter() -> None:
    wrong: dict[str, Any] = {"content_filter": "whatever", "per_task_budget_trm": 100, "min_peer_reputation": -1}
    for field in ("min_peer_reputation", "per_task_budget_trm", "content_filter"):
        with pytest.raises(InvalidField) as refused:
            Preferences(**wrong)
        assert refused.value.param == field
        del wrong[field]
    assert Preferences(**wrong) == Preferences()


def test_a_limit_of_nothing_is_a_limit() -> None:
    assert replace(Preferences(), per_task_budget_trm=0, daily_spend_limit_trm=0).daily_spend_limit_trm == 0
