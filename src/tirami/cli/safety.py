"""``tirami safety``: kill switch, limits, circuit breaker, denials."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import (
    CircuitEntry,
    DenialEntry,
    KillReply,
    KillRequest,
    PolicyEntry,
    PolicyRequest,
    SafetyQuery,
)
from tirami.cli.agent import full_id
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.sdk import Tirami

commands = typer.Typer(no_args_is_help=True, help="Kill switch, limits and the last denials.")
Reason = Annotated[str, typer.Option(help="Why; journaled.")]
Operator = Annotated[str, typer.Option(envvar="USER", help="Your name, recorded in the journal.")]
Mesh = Annotated[
    bool, typer.Option("--mesh", help="Also freeze (or release) every node whose mesh.operator is this node's key.")
]
Budget = Annotated[str | None, typer.Option(help="TRM, or 'none' for no limit.")]
SHOWN = 10
"""Denials in the table; JSON has all that are kept."""


@commands.command()
def show(
    account: Annotated[
        str | None,
        typer.Option(help="Account id, or its start; absent: your own, which on the mesh is the node's key."),
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """What is frozen, what an account may spend and has spent."""
    with connect(url, token, data_dir, admin=True) as client:
        state = client.safety(SafetyQuery(node=full_id(account, client) if account else None))
        spender = None if account else _spender(client)
        if spender is not None:
            state = client.safety(SafetyQuery(node=spender))
    note = " (the node's key, which pays on the mesh)" if spender else ""
    policy = state.policy
    facts = {
        "Kill switch": f"ACTIVE: {state.kill_reason}" if state.kill_switch_active else "off",
        "Halted": state.halted or "no",
        "Account": f"{state.node_id}{note}",
        "Spent this hour": f"{state.hourly_spend} of {_limit(policy.max_cu_per_hour if policy else None)}",
        "Spent ever": f"{state.lifetime_spend} of {_limit(policy.max_cu_lifetime if policy else None)}",
        "Per request": _limit(policy.max_cu_per_request if policy else None),
        "Approval above": _limit(policy.human_approval_threshold if policy else None),
        "Spends this minute": f"{state.spends_last_minute} of {_limit(_per_minute(policy), '')}",
        "Circuit breaker": _circuit(state.circuit),
        "Reserved": f"{state.reserved} TRM in {state.open_sessions} sessions",
        "Approvals": f"{len(state.approvals)} waiting or unused",
    }

    def show_all(console: Console) -> None:
        fields(console, "", facts)
        if state.denials:
            console.print(_denials(state.denials[:SHOWN]))

    Terminal(json_output).show(state.model_dump(), show_all)


@commands.command()
def kill(
    reason: Reason = "",
    operator: Operator = "",
    mesh: Mesh = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Freeze all spending now. Running answers end; what they delivered and signed for stays booked."""
    with connect(url, token, data_dir, admin=True) as client:
        result = client.kill(KillRequest(activate=True, reason=reason, operator=operator, mesh=mesh))
    text = f"[bold red]→ {result.status}[/]\n→ All TRM transactions frozen. No agent can spend."
    if mesh:
        text = f"[bold red]→ {result.status}[/]\n→ All TRM transactions of this node frozen. No agent of it can spend."
    Terminal(json_output).show(result.model_dump(), lambda console: _show_order(console, text, result))


@commands.command()
def release(
    operator: Operator = "",
    mesh: Mesh = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Let spending go on."""
    with connect(url, token, data_dir, admin=True) as client:
        result = client.kill(KillRequest(activate=False, reason="released", operator=operator, mesh=mesh))
    text = f"[green]→ {result.status}[/]"
    Terminal(json_output).show(result.model_dump(), lambda console: _show_order(console, text, result))


@commands.command()
def policy(
    account: Annotated[str, typer.Argument(help="Account id, or the start of one.")],
    per_request: Budget = None,
    per_hour: Budget = None,
    lifetime: Budget = None,
    approval_above: Annotated[
        str | None, typer.Option(help="TRM a spend may cost without an approval, or 'none'.")
    ] = None,
    per_minute: Annotated[str | None, typer.Option(help="Spends in a minute, or 'none'.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Set the limits of an account; those not named stay as they are."""
    named = {
        "max_cu_per_request": per_request,
        "max_cu_per_hour": per_hour,
        "max_cu_lifetime": lifetime,
        "human_approval_threshold": approval_above,
        "max_spends_per_minute": per_minute,
    }
    limits = {name: _whole(text) for name, text in named.items() if text is not None}
    with connect(url, token, data_dir, admin=True) as client:
        result = client.set_policy(PolicyRequest.model_validate({"node_id": full_id(account, client), **limits}))
    units = {"max_spends_per_minute": ""}
    shown = {name: _limit(value, units.get(name, " TRM")) for name, value in result.policy.model_dump().items()}
    Terminal(json_output).show(result.model_dump(), lambda console: fields(console, result.status, shown))


def _show_order(console: Console, text: str, result: KillReply) -> None:
    console.print(text)
    if (order := result.mesh) is None:
        return
    console.print(f"→ {order.peers} peers told; within a second {len(order.obeyed)} other nodes said that they obeyed.")
    for node in order.obeyed:
        console.print(f"  obeyed: {node}")
    for node, reason in order.refused.items():
        console.print(f"  [bold red]refused: {node}: {escape(reason)}[/]")
    console.print("  Of nodes that are not named nothing is known: look at each, `tirami safety show --url`.")


def _spender(client: Tirami) -> str | None:
    """The key that pays for its owner where the node is on the mesh; a caller bound to an account sees its own."""
    mesh = client.mesh()
    return mesh.buying.payer if mesh.enabled and mesh.address is not None else None


def _whole(text: str) -> int | None:
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise typer.BadParameter("a limit is a whole number, or 'none'")
    return int(text)


def _limit(value: int | None, unit: str = " TRM") -> str:
    return "no limit" if value is None else f"{value}{unit}"


def _per_minute(policy: PolicyEntry | None) -> int | None:
    return policy.max_spends_per_minute if policy else None


def _circuit(circuit: CircuitEntry) -> str:
    if circuit.state == "closed":
        return f"closed, {circuit.errors} errors in a row"
    until = f" until {when(circuit.until_ms)}" if circuit.state == "open" else ", one spend may try"
    return f"{circuit.state.replace('_', ' ')}{until} ({circuit.cause})"


def _denials(denials: list[DenialEntry]) -> Table:
    table = Table("Denied at", "Account", "TRM", "Code", "Reason")
    for denial in denials:
        amount = "" if denial.amount is None else denial.amount
        row = (when(denial.at_ms), denial.node_id[:16], amount, denial.code, denial.message)
        table.add_row(*(escape(str(cell)) for cell in row))
    return table
