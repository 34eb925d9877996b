"""``tirami agent``: accounts this node keeps for agents; its own agent is :mod:`tirami.cli.personal`."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import AccountEntry, AccountRequest, PolicyRequest, TokenRequest, TransferRequest
from tirami.cli.ids import whole
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.core.errors import AccountNotFound, InvalidField
from tirami.sdk import Tirami

commands = typer.Typer(no_args_is_help=True, help="The node's own agent, and accounts it keeps for others.")
Label = Annotated[str, typer.Argument(help="A name for people.")]
Account = Annotated[str, typer.Argument(help="Account id, or the start of one.")]
PerRequest = Annotated[int | None, typer.Option(min=0, help="TRM a request; 0 allows nothing.  [default 4000]")]
PerHour = Annotated[int | None, typer.Option(min=0, help="TRM an hour; 0 allows nothing.  [default 10000]")]
Lifetime = Annotated[int | None, typer.Option(min=0, help="TRM in all; 0 allows nothing.  [default 1000000]")]


@commands.command()
def create(
    label: Label,
    budget_request: PerRequest = None,
    budget_hourly: PerHour = None,
    budget_lifetime: Lifetime = None,
    ttl_days: Annotated[int, typer.Option(min=0, help="Lifetime of the token; 0 is for ever.")] = 7,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Make an account with a welcome line and a token that may spend for it. The token is shown once.

    A spend above 500 TRM waits for your approval, and 30 spends a minute are allowed, until `tirami safety policy` says
    otherwise. The line is granted once and ends; fund the account (`tirami agent fund`) before it does.
    """
    budgets = {
        "max_cu_per_request": budget_request,
        "max_cu_per_hour": budget_hourly,
        "max_cu_lifetime": budget_lifetime,
    }
    given = {name: value for name, value in budgets.items() if value is not None}
    with connect(url, token, data_dir, admin=True) as client:
        account = client.create_account(AccountRequest(label=label))
        if given:
            client.set_policy(PolicyRequest.model_validate({"node_id": account.account, **given}))
        issued = client.issue_token(
            TokenRequest(scope="inference", node_id=account.account, ttl_secs=ttl_days * 86_400 or None, label=label)
        )
    facts = {**account.model_dump(), "token": issued.token, "token_expires_at_ms": issued.expires_at_ms}
    shown = {
        "Account": account.account,
        "Label": account.label,
        "Balance": f"{account.effective_balance} TRM{_until(account)}",
        "Token": f"{issued.token}  (shown once)",
        "Token expires": when(issued.expires_at_ms) if issued.expires_at_ms else "never",
    }
    Terminal(json_output).show(facts, lambda console: fields(console, "", shown))


@commands.command("list")
def list_accounts(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """All accounts with what they can spend."""
    with connect(url, token, data_dir, admin=True) as client:
        accounts = client.accounts().accounts
    Terminal(json_output).show([a.model_dump() for a in accounts], lambda console: _table(console, accounts))


@commands.command()
def fund(
    account: Account,
    amount: Annotated[int, typer.Argument(min=1, help="TRM the node owns.")],
    idempotency_key: Annotated[
        str | None, typer.Option(help="A name for this transfer: sent again under it within a day, it moves nothing.")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Give an account TRM the node has earned. A credit line cannot be given away."""
    with connect(url, token, data_dir, admin=True) as client:
        given = client.transfer(
            TransferRequest(to=full_id(account, client), amount=amount), idempotency_key=idempotency_key
        )
    shown = {"Given": f"{given.amount} TRM", "To": given.to, "It can spend": f"{given.effective_balance} TRM"}
    Terminal(json_output).show(given.model_dump(), lambda console: fields(console, "", shown))


@commands.command()
def disable(
    account: Annotated[str, typer.Argument(help="Account id, the start of one, or a label that only one has.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Stop an account from spending, for good: nothing enables it again. Its history and income stay."""
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        chosen = _by_label(account, client) or full_id(account, client)
        if not yes and not terminal.err.is_terminal:
            raise InvalidField("nobody is here to be asked, and it cannot be undone: add --yes", param="yes")
        if not yes:
            typer.confirm(f"Account {chosen[:16]} will never spend again. Disable it?", abort=True, err=True)
        entry = client.disable_account(chosen)
    terminal.show(entry.model_dump(), lambda console: _table(console, [entry]))


def _by_label(label: str, client: Tirami) -> str | None:
    """The one account with this label. Raises ``AccountNotFound`` where several have it."""
    found = [entry.account for entry in client.accounts().accounts if label and entry.label == label]
    if len(found) > 1:
        raise AccountNotFound(f"{len(found)} accounts are labelled {label!r}: name one by the start of its id")
    return found[0] if found else None


def full_id(start: str, client: Tirami) -> str:
    """The one account that begins with ``start``. Raises ``AccountNotFound``."""
    return whole(start, (entry.account for entry in client.accounts().accounts), AccountNotFound)


def _until(account: AccountEntry) -> str:
    """When the welcome line ends, which is all that a new account has."""
    if account.line_until_ms is None:
        return ""
    return f", until {datetime.fromtimestamp(account.line_until_ms / 1000):%Y-%m-%d %H:%M}"


def _table(console: Console, accounts: list[AccountEntry]) -> None:
    table = Table("Account", "Label", "Can spend", "Net", "Reserved", "")
    for entry in accounts:
        state = "disabled" if entry.disabled else ""
        row = (entry.account[:16], entry.label, entry.effective_balance, entry.net_balance, entry.reserved, state)
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table if accounts else "No accounts yet: tirami agent create NAME")
