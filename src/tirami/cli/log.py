"""``tirami log``: what an auditor asks of a node's log. Whatever the node says is checked here, not believed."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from tirami.api.schemas import ConsistencyQuery, HeadEntry, RecordsQuery, TradeEntry, TradesQuery
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.records import Kind, check_records, record_lines
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.core.errors import InvalidProof, RateLimited
from tirami.core.keys import PublicKey, parse_node_id
from tirami.proto import Head
from tirami.sdk import Tirami
from tirami.verify import verify_growth, verify_head, verify_receipt

commands = typer.Typer(no_args_is_help=True, help="Audit a node's log: signed heads, growth, receipts.")
MAX_HEAD_FILE = 1 << 16
POLL_S = 1.0
TRIES: Final = 20
"""How often one question is put to a node that says it is asked too much."""
LONGEST_WAIT_S: Final = 5
P = ParamSpec("P")
T = TypeVar("T")
Count = Annotated[int, typer.Option("-n", min=1, max=100, help="How many.")]
Key = Annotated[
    str | None, typer.Option("--node", metavar="KEY", help="The node's key, if you know it from elsewhere.")
]
Save = Annotated[
    Path | None, typer.Option("--save", dir_okay=False, help="Keep the head in this file, to compare later.")
]
Saved = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="From log head --save.")
]


@commands.command()
def head(
    save: Save = None,
    node: Key = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """The newest signed head, its signature checked. Exit 3 when that is not the node's."""
    with connect(url, token, data_dir, admin=True) as client:
        entry = _patiently(client.log_head)
    checked = _checked(entry, _key(node))
    if save is not None:
        save.write_text(entry.model_dump_json() + "\n")
    Terminal(json_output).show(entry.model_dump(), lambda console: fields(console, "", _facts(checked)))


@commands.command()
def consistency(
    file: Saved, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False
) -> None:
    """Prove that the log has only grown since a saved head. Exit 3 when it was changed, cut or begun anew."""
    with file.open("rb") as opened:
        saved = HeadEntry.model_validate_json(opened.read(MAX_HEAD_FILE))
    older = _checked(saved, None)
    with connect(url, token, data_dir, admin=True) as client:
        newer = _checked(_patiently(client.log_head), None)
        _grown(client, older, newer)
    result = {"consistent": True, "node": newer.node.hex(), "from_size": older.size, "to_size": newer.size}
    text = f"[bold green]The log has only grown[/]: {older.size} → {newer.size} leaves, root {newer.root.hex()}"
    Terminal(json_output).show({**result, "root": newer.root.hex()}, lambda console: console.print(text))


@commands.command()
def verify(
    count: Count = 20,
    node: Key = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Check the receipts of the newest trades, and that all stand in the log under one signed head. Exit 3 if not."""
    with connect(url, token, data_dir, admin=True) as client:
        trades = _patiently(client.trades, TradesQuery(limit=count)).trades
        receipts = [verify_receipt(_patiently(client.trade_receipt, trade.id)) for trade in trades]
        newest = _checked(_patiently(client.log_head), _key(node))
        heads = {receipt.head.size: receipt.head for receipt in receipts}
        for older in heads.values():
            _grown(client, older, newest)
    for trade, receipt in zip(trades, receipts, strict=True):
        if (trade.id, trade.trm_amount) != (receipt.record_id.hex(), receipt.amount):
            raise InvalidProof(f"the node lists trade {trade.id} otherwise than its receipt", param="id")
    total = sum(receipt.amount for receipt in receipts)
    result = {"verified": len(receipts), "amount_trm": total, "node": newest.node.hex(), "log_size": newest.size}
    text = f"[bold green]{len(receipts)} receipts verified[/], {total} TRM, under a head of {newest.size} leaves"
    Terminal(json_output).show({**result, "log_root": newest.root.hex()}, lambda console: console.print(text))


@commands.command()
def records(
    count: Count = 20,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only of this kind; a grant is a credit line.")] = None,
    before: Annotated[int | None, typer.Option("--before", min=0, metavar="LEAF", help="Go on from this leaf.")] = None,
    node: Key = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Trades, transfers and credit lines, the newest first: each signed and proved in the log. Exit 3 if one is not."""
    query = RecordsQuery(
        limit=count, kind=None if kind is None else kind.value, cursor=before, signatures=True, proofs=True
    )
    with connect(url, token, data_dir, admin=True) as client:
        page = client.records(query)
    if page.head is None:
        raise InvalidProof("the node shows no head with its records", param="head")
    check_records(page.records, _checked(page.head, _key(node)))
    Terminal(json_output).show(page.model_dump(), lambda console: record_lines(console, page.records))


@commands.command()
def tail(
    count: Count = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as trades are booked.")] = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """The newest trades, the newest last; with --follow and --json one a line."""
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        trades = _patiently(client.trades, TradesQuery(limit=count)).trades[::-1]
        if not follow:
            terminal.show([trade.model_dump() for trade in trades], lambda console: _lines(console, trades))
            return
        with suppress(KeyboardInterrupt):
            _follow(client, terminal, trades)


def _follow(client: Tirami, terminal: Terminal, trades: list[TradeEntry]) -> None:
    """Print ``trades``, and then every newer one."""
    seen = -1
    while True:
        for trade in trades:
            seen = trade.leaf_index
            if terminal.json_output:
                print(json.dumps(trade.model_dump()), flush=True)
            else:
                _lines(terminal.out, [trade])
        time.sleep(POLL_S)
        newest = _patiently(client.trades, TradesQuery(limit=100)).trades[::-1]
        trades = [trade for trade in newest if trade.leaf_index > seen]


def _patiently(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """An audit asks more than ``api.rate_per_second`` allows at once: wait as the node asks. Raises ``RateLimited``."""
    for _ in range(TRIES):
        try:
            return ask(*args, **kwargs)
        except RateLimited as error:
            time.sleep(min(error.retry_after or 1, LONGEST_WAIT_S))
    return ask(*args, **kwargs)


def _checked(entry: HeadEntry, node: PublicKey | None) -> Head:
    """The signed head in ``entry``; the readable fields beside it count for nothing. Raises ``InvalidProof``."""
    try:
        body, signature = bytes.fromhex(entry.body), bytes.fromhex(entry.signature)
    except ValueError as error:
        raise InvalidProof("the head is not written in hexadecimal digits", param="body") from error
    return verify_head(body, signature, node)


def _grown(client: Tirami, older: Head, newer: Head) -> None:
    """Raises ``InvalidProof``."""
    proof: list[bytes] = []
    if 0 < older.size < newer.size:
        answer = _patiently(client.log_consistency, ConsistencyQuery(first=older.size, second=newer.size))
        proof = [bytes.fromhex(node) for node in answer.proof]
    verify_growth(older, newer, proof)


def _key(node: str | None) -> PublicKey | None:
    return None if node is None else parse_node_id(node)


def _facts(head: Head) -> dict[str, object]:
    return {
        "Node": f"{head.node.hex()}, its signature checked",
        "Network": f"{head.network}, rules {head.network_hash.hex()}",
        "Log": head.log_id.hex(),
        "Size": f"{head.size} leaves",
        "Root": head.root.hex(),
        "When": when(head.at_ms),
    }


def _lines(console: Console, trades: list[TradeEntry]) -> None:
    for trade in trades:
        work = f"{trade.prompt_tokens} + {trade.tokens_processed} tokens"
        text = f"{trade.leaf_index:>8}  {when(trade.timestamp)}  {trade.trm_amount:>7} TRM  {work:<20}  {trade.scope}"
        console.print(f"{escape(text):<80}  [dim]{trade.id[:16]}[/]")
