"""``tirami safety``: the kill switch and budgets."""

from typing import Annotated

import typer

from tirami.api.schemas import KillRequest, PolicyRequest, SafetyQuery
from tirami.cli.agent import full_id
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields

commands = typer.Typer(no_args_is_help=True, help="Kill switch and budgets.")
Reason = Annotated[str, typer.Option(help="Why; journaled.")]
Operator = Annotated[str, typer.Option(envvar="USER", help="Who; journaled.")]
Budget = Annotated[str | None, typer.Option(help="TRM, or 'none' for no limit.  [keep the default]")]


@commands.command()
def show(
    account: Annotated[
        str | None, typer.Option(help="Account id, or the start of one; the caller's own if absent.")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """What is frozen, what an account may spend and has spent."""
    with connect(url, token, data_dir, admin=True) as client:
        state = client.safety(SafetyQuery(node=full_id(account, client) if account else None))
    policy = state.policy
    facts = {
        "Kill switch": f"ACTIVE: {state.kill_reason}" if state.kill_switch_active else "off",
        "Halted": state.halted or "no",
        "Account": state.node_id,
        "Spent this hour": f"{state.hourly_spend} of {_limit(policy.max_cu_per_hour if policy else None)}",
        "Spent ever": f"{state.lifetime_spend} of {_limit(policy.max_cu_lifetime if policy else None)}",
        "Per request": _limit(policy.max_cu_per_request if policy else None),
        "Reserved": f"{state.reserved} TRM in {state.open_sessions} sessions",
    }
    Terminal(json_output).show(state.model_dump(), lambda console: fields(console, "", facts))


@commands.command()
def kill(
    reason: Reason = "",
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Freeze all spending now. Running answers end; what they delivered and signed for stays booked."""
    with connect(url, token, data_dir, admin=True) as client:
        result = client.kill(KillRequest(activate=True, reason=reason, operator=operator))
    text = f"[bold red]→ {result.status}[/]\n→ All TRM transactions frozen. No agent can spend."
    Terminal(json_output).show(result.model_dump(), lambda console: console.print(text))


@commands.command()
def release(
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Let spending go on."""
    with connect(url, token, data_dir, admin=True) as client:
        result = client.kill(KillRequest(activate=False, reason="released", operator=operator))
    Terminal(json_output).show(result.model_dump(), lambda console: console.print(f"[green]→ {result.status}[/]"))


@commands.command()
def policy(
    account: Annotated[str, typer.Argument(help="Account id, or the start of one.")],
    per_request: Budget = None,
    per_hour: Budget = None,
    lifetime: Budget = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Set the budgets of an account; those not named take their defaults."""
    named = {"max_cu_per_request": per_request, "max_cu_per_hour": per_hour, "max_cu_lifetime": lifetime}
    budgets = {name: _budget(text) for name, text in named.items() if text is not None}
    with connect(url, token, data_dir, admin=True) as client:
        result = client.set_policy(PolicyRequest.model_validate({"node_id": full_id(account, client), **budgets}))
    shown = {name: _limit(value) for name, value in result.policy.model_dump().items()}
    Terminal(json_output).show(result.model_dump(), lambda console: fields(console, result.status, shown))


def _budget(text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise typer.BadParameter("a budget is a whole number of TRM, or 'none'")
    return int(text)


def _limit(value: int | None) -> str:
    return "no limit" if value is None else f"{value} TRM"
