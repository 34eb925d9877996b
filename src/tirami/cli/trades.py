"""``tirami trades`` and ``tirami receipt``: what was paid for, and the file that proves it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tirami.api.schemas import TradeEntry, TradesQuery
from tirami.cli.ids import FULL, whole
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal
from tirami.cli.times import when
from tirami.core.errors import TradeNotFound
from tirami.sdk import Tirami

SEARCHED = 100
"""Newest trades among which the start of an id is looked for."""


def trades(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many.")] = 20,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Trades this node knows, newest first."""
    with connect(url, token, data_dir, admin=True) as client:
        found = client.trades(TradesQuery(limit=count)).trades
    Terminal(json_output).show([trade.model_dump() for trade in found], lambda console: _table(console, found))


def receipt(
    trade: Annotated[
        str | None, typer.Argument(metavar="ID", help="Trade, or the start of its id; absent: the newest.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", dir_okay=False, metavar="FILE", help="Write it here.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """The receipt of a trade: a file that anybody can check with `tirami verify`, without a node."""
    with connect(url, token, data_dir, admin=True) as client:
        number = _trade_id(trade, client)
        content = client.trade_receipt(number)
    if out is None:
        print(content.decode(), end="")  # to the byte: another would not verify
        return
    out.write_bytes(content)
    facts = {"trade_id": number, "file": str(out.absolute()), "bytes": len(content)}
    said = f"receipt of {number} written to {out}: tirami verify {out}"
    Terminal(json_output).show(facts, lambda console: console.print(said, markup=False))


def _trade_id(start: str | None, client: Tirami) -> str:
    """Raises ``TradeNotFound``."""
    if start is not None and len(start) >= FULL:
        return start
    newest = client.trades(TradesQuery(limit=1 if start is None else SEARCHED)).trades
    if start is not None:
        return whole(start, (entry.id for entry in newest), TradeNotFound)
    if not newest:
        raise TradeNotFound("there is no trade yet")
    return newest[0].id


def _table(console: Console, found: list[TradeEntry]) -> None:
    table = Table("Id", "When", "TRM", "Tokens", "Payer", "Provider", "Scope")
    for trade in found:
        tokens = f"{trade.prompt_tokens} + {trade.tokens_processed}"
        parties = (trade.consumer[:16], trade.provider[:16])
        table.add_row(trade.id[:16], when(trade.timestamp), str(trade.trm_amount), tokens, *parties, trade.scope)
    console.print(table if found else "No trades yet.")
