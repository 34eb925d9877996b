"""``tirami settle``: a signed statement of what was traded, and its check without a node."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import SettlementQuery
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.receipt import Trust
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.core.errors import InvalidField
from tirami.core.keys import parse_node_id
from tirami.proto.statement import MAX_STATEMENT
from tirami.verify import NOBODY, VerifiedStatement, verify_statement

Hours = Annotated[int, typer.Option("--hours", min=1, max=876_000, help="Length of the window that ends now.")]
Csv = Annotated[bool, typer.Option("--csv", help="A table instead of JSON; it verifies just the same.")]
Out = Annotated[Path | None, typer.Option("--out", dir_okay=False, metavar="FILE", help="Write it here.")]
Price = Annotated[float | None, typer.Option("--price", min=0, help="What a TRM is worth to you, in any unit.")]
Cursor = Annotated[int | None, typer.Option("--cursor", min=0, help="Go on where the statement before ended.")]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify", exists=True, dir_okay=False, readable=True, metavar="FILE", help="Check a statement instead."
    ),
]


def settle(
    hours: Hours = 24,
    csv: Csv = False,
    out: Out = None,
    price: Price = None,
    cursor: Cursor = None,
    verify: Verify = None,
    trust: Trust = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Fetch a signed statement of the last hours, or check one with nothing but the file (exit 3 when it is wrong)."""
    terminal = Terminal(json_output)
    if verify is not None:
        _verify(terminal, verify, trust)
        return
    if json_output and csv and out is None:
        raise InvalidField("--json and --csv both want standard output; write the table with --out", param="csv")
    query = SettlementQuery(hours=hours, format="csv" if csv else "json", reference_price_per_trm=price, cursor=cursor)
    with connect(url, token, data_dir, admin=True) as client:
        statement = client.settlement(query)
    verified = verify_statement(statement)
    if verified.next_cursor is not None:
        terminal.note(f"The window holds more trades: go on with --cursor {verified.next_cursor}")
    if out is None:
        print(statement.decode().rstrip("\r\n"))
    else:
        _write(out, statement)
        saved = {"file": str(out), **_facts(verified)}
        terminal.show(saved, lambda console: console.print(_saved(out, verified), markup=False))


def _verify(terminal: Terminal, file: Path, trust: list[str] | None) -> None:
    trusted = frozenset(parse_node_id(key) for key in trust) if trust else None
    with file.open("rb") as opened:
        data = opened.read(MAX_STATEMENT + 1)
    verified = verify_statement(data, trusted)
    terminal.show(_facts(verified), lambda console: _show(console, verified))


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _saved(out: Path, verified: VerifiedStatement) -> str:
    statement = verified.statement
    return f"{statement.trades} trades, {statement.volume} TRM, root {statement.root.hex()} -> {out}"


def _facts(verified: VerifiedStatement) -> dict[str, object]:
    statement = verified.statement
    return {
        "verified": True,
        "node": statement.node.hex(),
        "network": statement.network,
        "network_hash": statement.network_hash.hex(),
        "account": None if statement.account == NOBODY else statement.account.hex(),
        "since_ms": statement.since_ms,
        "until_ms": statement.until_ms,
        "first_leaf": statement.first,
        "end_leaf": statement.end,
        "trades": statement.trades,
        "volume_trm": statement.volume,
        "next_cursor": verified.next_cursor,
        "merkle_root": statement.root.hex(),
        "trusted_keys": "named" if verified.trusted else "statement",
    }


def _show(console: Console, verified: VerifiedStatement) -> None:
    statement = verified.statement
    found = {
        "Signed by": statement.node.hex(),
        "Network": f"{statement.network}, rules {statement.network_hash.hex()}",
        "Window": f"{when(statement.since_ms)} to {when(statement.until_ms)}, by time of booking",
        "Leaves": f"{statement.first} up to, not including, {statement.end}",
        "Trades": f"{statement.trades}, every one signed by payer and provider",
        "Volume": f"{statement.volume} TRM",
        "Root": statement.root.hex(),
    }
    console.print("[bold green]Statement verified[/]")
    fields(console, "", found)
    for row in verified.nodes[:20]:
        net = f"{row.net_trm:+,} TRM net, {row.trade_count} trades"
        console.print(f"    {row.node_id[:16]}  {row.scope:<7}  {net}", markup=False)
    if not verified.trusted:
        said = "No key was named with --trust: this proves that the node above signed, not whose node it is."
        console.print(said, style="yellow")
