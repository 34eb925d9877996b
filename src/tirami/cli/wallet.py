"""``tirami wallet``: the identity that holds the money, and how much it is."""

from pathlib import Path
from typing import Annotated

import typer

from tirami.api.schemas import BalanceQuery
from tirami.cli.agent import full_id
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect, data_directory
from tirami.cli.terminal import Terminal, fields
from tirami.core.keyfile import load_or_create_node_key

commands = typer.Typer(no_args_is_help=True, help="The key of this node, and its money.")
KeyPath = Annotated[Path | None, typer.Option("--key-path", help="Key file.  [DATA_DIR/node.key]")]


@commands.callback()
def wallet() -> None:
    """The key of this node, and its money."""


@commands.command()
def balance(
    account: Annotated[
        str | None, typer.Option(help="Hosted account, or the start of its id; absent: the node's key.")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """What the node's key earned, spent and can spend, and its owner's own use."""
    with connect(url, token, data_dir, admin=True) as client:
        own = client.balance(BalanceQuery(limit=1))
        node = client.mesh().buying.payer
        named = full_id(account, client) if account else node
        shown = own if own.node_id == named else client.balance(BalanceQuery(node=named, limit=1))
    whose = " (the node's key)" if shown.node_id == node else ""
    facts: dict[str, object] = {
        "Account": f"{shown.node_id}{whose}",
        "Can spend": f"{shown.effective_balance} TRM",
        "Earned": f"{shown.contributed} TRM",
        "Spent": f"{shown.consumed} TRM",
        "Reserved": f"{shown.reserved} TRM",
        "Credit line": f"{shown.credit_limit} TRM, {shown.credit_drawn} of it drawn",
        "Trades": shown.trade_count,
    }
    if account is None and own.node_id != shown.node_id:
        facts["Own use here"] = f"{own.consumed} TRM in {own.trade_count} answers: kept apart, it funds nothing"
    Terminal(json_output).show(shown.model_dump(), lambda console: fields(console, "", facts))


@commands.command()
def identity(key_path: KeyPath = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Show who this node is, making its key when there is none. Never shows the secret."""
    path = key_path or data_directory(data_dir) / "node.key"
    key, created = load_or_create_node_key(path)
    facts = {
        "wallet_file": str(path),
        "status": "created" if created else "loaded",
        "node_id": key.public_key.hex(),
        "file_permissions": f"{path.stat().st_mode & 0o7777:04o}",
    }
    titles = ("Wallet file", "Status", "Node ID (Ed25519)", "File permissions")
    lines = [f"{title + ':':<19} {value}" for title, value in zip(titles, facts.values(), strict=True)]
    terminal = Terminal(json_output)
    terminal.show(facts, lambda console: console.print("\n".join(lines), markup=False))
