"""``tirami agent status``, ``task``, ``chat``, ``preferences``: the node's own agent, which spends the node's money."""

import sys
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import AgentPreferencesRequest, AgentStatus, AgentTaskReply, AgentTaskRequest
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when

Model = Annotated[str | None, typer.Option("--model", "-m", help="Model.  [any]")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens of the answer.")]
Size = Annotated[
    str | None, typer.Option(help="local, remote, or hybrid: of a peer that you name.  [local up to 256 tokens]")
]
Estimate = Annotated[
    int | None, typer.Option(min=1, help="TRM it may cost.  [a hundredth of --max-tokens, rounded up]")
]
Peer = Annotated[str | None, typer.Option(help="Node id of who is to do it.  [whoever is best]")]


def status(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """What the agent may do, what it has spent and earned today, and what it did last."""
    with connect(url, token, data_dir, admin=True) as client:
        state = client.agent_status()
    Terminal(json_output).show(state.model_dump(), partial(_status, state))


def summary(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """The same in one line."""
    with connect(url, token, data_dir, admin=True) as client:
        line = client.agent_status().summary
    Terminal(json_output).show({"summary": line}, lambda console: console.print(line, markup=False))


def task(
    prompt: Annotated[str, typer.Argument(help="What is to be done.")],
    max_tokens: MaxTokens = 256,
    model: Model = None,
    size: Size = None,
    estimate: Estimate = None,
    peer: Peer = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Have something done, here or by a peer, within the agent's limits; or learn why you are asked first."""
    body = _request(prompt, max_tokens, model, size, estimate, peer)
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.agent_task(body)
    Terminal(json_output).show(reply.model_dump(), partial(_told, reply))


def chat(
    max_tokens: MaxTokens = 256,
    model: Model = None,
    size: Size = None,
    estimate: Estimate = None,
    peer: Peer = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """One task a line of standard input, until it ends. Each stands alone: nothing of the lines before is sent."""
    terminal, replies = Terminal(json_output), []
    with connect(url, token, data_dir, admin=True) as client:
        for line in filter(None, map(str.strip, sys.stdin)):
            replies.append(client.agent_task(_request(line, max_tokens, model, size, estimate, peer)))
            if not json_output:
                _told(replies[-1], terminal.out)
    if json_output:
        terminal.show([reply.model_dump() for reply in replies], lambda _: None)


def preferences(
    daily: Annotated[int | None, typer.Option(min=0, help="TRM it may spend a day (UTC).")] = None,
    per_task: Annotated[int | None, typer.Option(min=0, help="TRM one task may cost.")] = None,
    auto_earn: Annotated[bool | None, typer.Option(help="Whether others are served.")] = None,
    auto_spend: Annotated[bool | None, typer.Option(help="Whether it buys without asking.")] = None,
    idle_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of places in use up to which the node is idle.")
    ] = None,
    idle_grace: Annotated[int | None, typer.Option(min=0, help="Seconds until it counts as idle.")] = None,
    min_reputation: Annotated[
        float | None, typer.Option(min=0, max=1, help="Reputation of a peer below which it is not served.")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Set what the agent may do; what is not named stays as it is. Without options, show it."""
    named = {
        "daily_spend_limit_trm": daily,
        "per_task_budget_trm": per_task,
        "auto_earn_enabled": auto_earn,
        "auto_spend_enabled": auto_spend,
        "idle_utilization_threshold": idle_threshold,
        "idle_grace_seconds": idle_grace,
        "min_peer_reputation": min_reputation,
    }
    given = {name: value for name, value in named.items() if value is not None}
    with connect(url, token, data_dir, admin=True) as client:
        kept = client.set_agent_preferences(AgentPreferencesRequest.model_validate(given))
    Terminal(json_output).show(kept.model_dump(), lambda console: fields(console, "", kept.model_dump()))


def _request(
    prompt: str, max_tokens: int, model: str | None, size: str | None, estimate: int | None, peer: str | None
) -> AgentTaskRequest:
    named = {"model": model, "size": size, "estimated_trm": estimate, "peer": {"node_id": peer} if peer else None}
    given = {name: value for name, value in named.items() if value is not None}
    return AgentTaskRequest.model_validate({"prompt": prompt, "max_tokens": max_tokens, **given})


def _status(state: AgentStatus, console: Console) -> None:
    limits = state.preferences
    if limits is None:
        console.print(state.summary, markup=False)
        return
    facts = {
        "Wallet": state.wallet,
        "Spent today": f"{state.spent_today_trm} of {limits.daily_spend_limit_trm} TRM",
        "Set aside": f"{state.reserved_today_trm} TRM for tasks under way",
        "Earned today": f"{state.earned_today_trm} TRM",
        "Day began": when(state.day_started_at_ms or 0),
        "Per task": f"{limits.per_task_budget_trm} TRM",
        "Buys": "by itself" if limits.auto_spend_enabled else "only when asked",
        "Serves": f"peers of a reputation from {limits.min_peer_reputation:g}"
        if limits.auto_earn_enabled
        else "nobody",
        "Did last": state.loop.last_action or "nothing yet",
    }
    fields(console, "", facts)


def _told(reply: AgentTaskReply, console: Console) -> None:
    if reply.output is None:
        asked = f" It may cost {reply.estimated_cost_trm} TRM." if reply.estimated_cost_trm is not None else ""
        console.print(f"Not done ({reply.status}): {reply.reason}.{asked}", markup=False)
        return
    console.print(reply.output, markup=False)
    by = f"bought of {reply.provider}" if reply.provider else "done here"
    console.print(f"→ {reply.tokens} tokens, {reply.cost_trm} TRM, {by}", style="dim", markup=False)
