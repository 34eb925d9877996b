"""``tirami approvals``: spends that wait for a person."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import ApprovalEntry, DecisionRequest
from tirami.cli.ids import whole
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.safety import Operator
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal
from tirami.cli.times import when
from tirami.core.errors import ApprovalNotFound
from tirami.sdk import Tirami

commands = typer.Typer(no_args_is_help=True, help="Spends that wait for a person.")
Id = Annotated[str, typer.Argument(metavar="ID", help="Id from `approvals list`, or its start.")]


@commands.command("list")
def list_approvals(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """What waits, and what was decided and is not used yet."""
    with connect(url, token, data_dir, admin=True) as client:
        approvals = client.approvals().approvals
    Terminal(json_output).show([a.model_dump() for a in approvals], lambda console: _table(console, approvals))


@commands.command()
def approve(
    approval: Id,
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Permit a spend: this account, this ceiling, ten minutes, one use."""
    with connect(url, token, data_dir, admin=True) as client:
        _decided(client, client.approve, approval, operator, Terminal(json_output))


@commands.command()
def deny(
    approval: Id,
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Refuse a spend."""
    with connect(url, token, data_dir, admin=True) as client:
        _decided(client, client.deny, approval, operator, Terminal(json_output))


def _decided(
    client: Tirami,
    decide: Callable[[str, DecisionRequest], ApprovalEntry],
    start: str,
    operator: str,
    terminal: Terminal,
) -> None:
    approval = whole(start, (entry.id for entry in client.approvals().approvals), ApprovalNotFound)
    entry = decide(approval, DecisionRequest(operator=operator))
    terminal.show(entry.model_dump(), lambda console: _table(console, [entry]))


def _table(console: Console, approvals: list[ApprovalEntry]) -> None:
    table = Table("Id", "Account", "Label", "Up to TRM", "State", "Good until", "Decided by")
    for entry in approvals:
        until = when(entry.expires_ms)
        row = (entry.id[:16], entry.node_id[:16], entry.label, entry.ceiling, entry.status, until, entry.operator)
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table if approvals else "Nothing waits for an approval.")
