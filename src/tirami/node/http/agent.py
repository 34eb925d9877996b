"""The owner's agent: its limits, its day, its tasks. It spends the node's money; accounts may not use it."""

from dataclasses import replace
from typing import Any

from tirami.api.schemas import (
    AgentLoop,
    AgentPreferences,
    AgentPreferencesRequest,
    AgentStatus,
    AgentTaskReply,
    AgentTaskRequest,
)
from tirami.core.errors import AgentDisabled, InsufficientScope
from tirami.core.keys import parse_node_id
from tirami.core.units import MICRO, Ppm, Trm
from tirami.mind import AskUser, Preferences, Refused, Tally, TaskSize, default_estimate, default_size
from tirami.node.agent import Agent, Assigned, Done
from tirami.node.answer import FINISH
from tirami.node.http.caller import permit_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.stream import while_connected

ANY_MODEL = "active"
"""The original's name for whatever is loaded."""
FRACTIONS = ("auto_stake_fraction", "idle_utilization_threshold", "min_peer_reputation")
NO_AGENT = "this node has no agent (agent.enabled)"


@handles("agent_status", shows_book=True)
async def agent_status(call: Call) -> AgentStatus:
    _check_owner(call)
    agent = call.parts.agent
    if agent is None:
        loop = AgentLoop(ticks=0, last_action=None, last_tick_ms=None)
        return AgentStatus(configured=False, loop=loop, summary=NO_AGENT)
    tally, preferences = agent.purse.tally, agent.purse.preferences
    return AgentStatus(
        configured=True,
        wallet=agent.wallet.hex(),
        wallet_source="machine_node",
        spent_today_trm=tally.spent,
        reserved_today_trm=tally.reserved,
        earned_today_trm=tally.earned,
        net_today_trm=tally.net,
        day_started_at_ms=tally.day_started_ms,
        preferences=_shown(preferences),
        loop=AgentLoop(
            ticks=agent.stats.ticks,
            last_action=agent.stats.last_action,
            last_tick_ms=agent.stats.last_tick_ms,
        ),
        summary=_summary(agent, tally, preferences),
    )


@handles("agent_task")
async def agent_task(call: Call) -> AgentTaskReply:
    _check_owner(call)
    agent, body = _agent(call), call.body
    assigned = _assigned(agent, body, permit_of(call.request))
    done = await while_connected(call.request, agent.run_task(assigned))
    return _told(call, assigned, done)


@handles("set_agent_preferences")
async def set_agent_preferences(call: Call) -> AgentPreferences:
    agent, body = _agent(call), call.body
    preferences = replace(agent.purse.preferences, **_named(body))
    await agent.purse.prefer(preferences)
    return _shown(preferences)


def _agent(call: Call) -> Agent:
    if call.parts.agent is None:
        raise AgentDisabled(NO_AGENT)
    return call.parts.agent


def _check_owner(call: Call) -> None:
    if call.caller.account is not None:
        raise InsufficientScope("the agent is the node's owner's, not an account's")


def _assigned(agent: Agent, body: AgentTaskRequest, permit: bytes) -> Assigned:
    size = default_size(body.max_tokens) if body.size is None else TaskSize(body.size)
    estimate = default_estimate(body.max_tokens) if body.estimated_trm is None else Trm(body.estimated_trm)
    return Assigned(
        id=agent.new_task_id(),
        prompt=body.prompt,
        max_tokens=body.max_tokens,
        model=None if body.model == ANY_MODEL else body.model,
        size=size,
        estimate=estimate,
        peer=parse_node_id(body.peer.node_id) if body.peer else None,
        permit=permit,
    )


def _told(call: Call, assigned: Assigned, done: Done) -> AgentTaskReply:
    action, answer = done.action, done.answer
    if answer is None:
        asked = isinstance(action, AskUser)
        return AgentTaskReply(
            task_id=assigned.id,
            status="ask_user" if asked else "refused",
            reason=action.reason if isinstance(action, AskUser | Refused) else None,
            estimated_cost_trm=action.cost if isinstance(action, AskUser) else None,
            size=assigned.size if asked else None,
            action=None if asked else action.tag,
        )
    facts = Frame(call, answer.ticket, "agent-").x_tirami(answer.settlements)
    (text,), (settlement,) = answer.told, answer.settlements
    assert settlement is not None, "an answer of one choice without a settlement is an error"
    local = assigned.size is TaskSize.LOCAL
    return AgentTaskReply(
        task_id=assigned.id,
        status="run_local" if local else "run_remote",
        output=text,
        tokens=settlement.bill.completion_tokens if settlement.bill else 0,
        finish_reason=FINISH[settlement.reason],
        cost_trm=facts.trm_cost,
        trade_id=facts.trade_id,
        trade_ids=facts.trade_ids,
        provider=None if local else facts.provider,
        x_tirami=facts,
    )


def _named(body: AgentPreferencesRequest) -> dict[str, Any]:
    """The fields that were given, as :class:`~tirami.mind.Preferences` has them."""
    given = {name: value for name in body.model_fields_set if (value := getattr(body, name)) is not None}
    return {name: Ppm(round(value * MICRO)) if name in FRACTIONS else value for name, value in given.items()}


def _shown(preferences: Preferences) -> AgentPreferences:
    return AgentPreferences(
        daily_spend_limit_trm=preferences.daily_spend_limit_trm,
        per_task_budget_trm=preferences.per_task_budget_trm,
        auto_earn_enabled=preferences.auto_earn_enabled,
        auto_spend_enabled=preferences.auto_spend_enabled,
        auto_stake_fraction=preferences.auto_stake_fraction / MICRO,
        idle_utilization_threshold=preferences.idle_utilization_threshold / MICRO,
        idle_grace_seconds=preferences.idle_grace_seconds,
        min_peer_reputation=preferences.min_peer_reputation / MICRO,
        content_filter=preferences.content_filter,
    )


def _summary(agent: Agent, tally: Tally, preferences: Preferences) -> str:
    """The status line of B8.2."""
    earns = "on" if preferences.auto_earn_enabled else "off"
    spends = "on" if preferences.auto_spend_enabled else "off"
    return (
        f"wallet {agent.wallet.hex()}  spent {tally.spent} TRM  earned {tally.earned} TRM  net {tally.net:+d} TRM  "
        f"auto-earn {earns}  auto-spend {spends}"
    )
