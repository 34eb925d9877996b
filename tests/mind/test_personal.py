"""What the agent decides: every vector of B8.3, and what changed: the day rolls inside the decision (weak spot 31)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.keys import PublicKey
from tirami.core.units import DAY_MS, Ppm, Trm, UnixMs
from tirami.mind import (
    NOBODY,
    Action,
    AskUser,
    Context,
    Idle,
    PersonalAgent,
    Preferences,
    Refused,
    RejectServing,
    RunLocal,
    RunRemote,
    ServeRequest,
    ServingRequest,
    StartEarning,
    Tally,
    Task,
    TaskSize,
    default_estimate,
    default_size,
)

PEER = PublicKey(bytes([51]) * 32)
START = UnixMs(0)


def agent(spent: int = 0, reserved: int = 0, **preferences: object) -> PersonalAgent:
    wanted = replace(Preferences(), **preferences)  # type: ignore[arg-type]
    return PersonalAgent(wanted, Tally(START, Trm(spent), Trm(reserved)))


def task(size: TaskSize, estimate: int, provider: PublicKey | None = PEER, forbidden: str | None = None) -> Task:
    return Task("t", size, Trm(estimate), provider, forbidden)


def decided(by: PersonalAgent, asked: Task, balance: int = 1000, now_ms: int = 0) -> Action:
    return by.decide(Context(UnixMs(now_ms), balance=Trm(balance), task=asked))


def test_a_task_and_the_day_have_limits() -> None:
    assert [agent().can_auto_spend(Trm(amount)) for amount in (10, 15, 16)] == [True, True, False]
    after = agent().spending(Trm(10))
    assert [after.can_auto_spend(Trm(amount)) for amount in (10, 11)] == [True, False]


def test_net_is_what_was_earned_less_what_was_spent() -> None:
    after = agent().earning(Trm(8)).spending(Trm(3))
    assert after.tally.net == 5
    assert after.spending(Trm(10)).tally.net == -5


@pytest.mark.parametrize(
    ("by", "asked", "word"),
    [
        (agent(), task(TaskSize.REMOTE, 50), "per-task"),
        (agent(spent=15), task(TaskSize.REMOTE, 10), "daily"),
        (agent(reserved=15), task(TaskSize.REMOTE, 10), "daily"),
        (agent(auto_spend_enabled=False), task(TaskSize.REMOTE, 5), "auto_spend_enabled"),
        (agent(auto_spend_enabled=False), task(TaskSize.HYBRID, 5), "auto_spend_enabled"),
        (agent(auto_spend_enabled=False), task(TaskSize.LOCAL, 1), None),
    ],
)
def test_when_the_owner_is_to_approve(by: PersonalAgent, asked: Task, word: str | None) -> None:
    reason = by.approval_needed(asked)
    assert (reason is None) if word is None else (reason is not None and word in reason)


def test_a_local_task_runs_whatever_the_balance() -> None:
    assert decided(agent(), task(TaskSize.LOCAL, 1, None), balance=0) == RunLocal("t")


@pytest.mark.parametrize("size", [TaskSize.REMOTE, TaskSize.HYBRID])
def test_what_is_bought_is_bought_of_the_provider(size: TaskSize) -> None:
    assert decided(agent(), task(size, 10), balance=100) == RunRemote("t", PEER, Trm(10))
    assert decided(agent(), task(size, 10, None), balance=100) == AskUser("t", NOBODY, Trm(10))


def test_the_owner_is_asked_about_what_is_too_much() -> None:
    beyond = decided(agent(), task(TaskSize.REMOTE, 100))
    assert isinstance(beyond, AskUser) and "per-task" in beyond.reason and beyond.cost == 100
    poor = decided(agent(), task(TaskSize.REMOTE, 10), balance=2)
    assert isinstance(poor, AskUser) and "2 TRM" in poor.reason


def test_what_the_owner_forbade_is_refused_before_anything_is_weighed() -> None:
    assert decided(agent(), task(TaskSize.REMOTE, 999, forbidden="denied")) == Refused("t", "denied")


@pytest.mark.parametrize(
    ("by", "reputation", "passes", "served"),
    [
        (agent(), 800_000, True, True),
        (agent(auto_earn_enabled=False), 800_000, True, False),
        (agent(), 50_000, True, False),
        (agent(), 800_000, False, False),
        (agent(), 300_000, True, True),
    ],
)
def test_who_is_served(by: PersonalAgent, reputation: int, passes: bool, served: bool) -> None:
    request = ServingRequest(PEER, "r", Ppm(reputation), passes, Trm(5))
    action = by.decide(Context(START, request=request))
    assert action == ServeRequest(PEER, "r", Trm(5)) if served else isinstance(action, RejectServing)


def test_who_is_not_served_is_told_both_numbers() -> None:
    action = agent().decide(Context(START, request=ServingRequest(PEER, "r", Ppm(50_000))))
    assert isinstance(action, RejectServing)
    assert "0.05" in action.reason and "0.3" in action.reason


def test_it_begins_to_earn_when_nothing_has_been_served_for_a_while() -> None:
    idle = Context(START, utilization=Ppm(50_000), idle_s=120)
    assert agent().decide(idle) == StartEarning()
    assert agent(auto_earn_enabled=False).decide(idle) == Idle()
    assert agent().decide(replace(idle, idle_s=59)) == Idle()
    assert agent().decide(replace(idle, utilization=Ppm(200_001))) == Idle()


def test_the_first_task_of_a_new_day_finds_a_new_tally() -> None:
    spent = agent(spent=20)
    assert isinstance(decided(spent, task(TaskSize.REMOTE, 10), now_ms=DAY_MS - 1), AskUser)
    assert decided(spent, task(TaskSize.REMOTE, 10), now_ms=DAY_MS) == RunRemote("t", PEER, Trm(10))


def test_what_is_under_way_at_midnight_counts_on_the_new_day() -> None:
    rolled = Tally(START, Trm(5), Trm(15), Trm(3)).on(UnixMs(2 * DAY_MS + 7))
    assert rolled == Tally(UnixMs(2 * DAY_MS), Trm(0), Trm(15), Trm(0))
    assert Tally(UnixMs(DAY_MS), Trm(5)).on(START) == Tally(UnixMs(DAY_MS), Trm(5)), "a clock set back rolls nothing"


@pytest.mark.parametrize(
    ("tokens", "size", "estimate"),
    [
        (1, "local", 1), (100, "local", 1), (101, "local", 2), (256, "local", 3),
        (257, "remote", 3), (1500, "remote", 15), (1501, "remote", 16),
    ],
)  # fmt: skip
def test_sizes_and_estimates_that_nobody_gave(tokens: int, size: str, estimate: int) -> None:
    assert (default_size(tokens), default_estimate(tokens)) == (TaskSize(size), estimate)


@given(st.lists(st.integers(1, 40)), st.integers(0, 30), st.integers(0, 15))
def test_whatever_is_asked_the_day_is_never_exceeded(asked: list[int], daily: int, each: int) -> None:
    by = agent(daily_spend_limit_trm=daily, per_task_budget_trm=min(each, daily))
    for amount in asked:
        action = decided(by, task(TaskSize.REMOTE, amount))
        if isinstance(action, RunRemote):
            by = by.spending(action.cost)
    assert by.tally.spent <= daily
