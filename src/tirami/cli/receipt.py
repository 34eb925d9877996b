"""``tirami verify``: check a receipt or a fraud proof with nothing but the file: no connection, no key."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tirami.cli import fraud
from tirami.cli.options import Json
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.core.keys import parse_node_id
from tirami.proto.fraud import MAX_FRAUD, is_fraud
from tirami.proto.receipt import MAX_RECEIPT
from tirami.verify import VerifiedReceipt, verify_fraud, verify_receipt

File = Annotated[
    Path,
    typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Receipt or fraud proof (JSON)."),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="KEY",
        help="A key you know; a receipt's provider and log must then be among them. Repeatable.",
    ),
]
SCOPES = {0: "network", 1: "local: between accounts of one node"}


def verify(file: File, trust: Trust = None, json_output: Json = False) -> None:
    """Check a receipt (signatures, bill, place in the log) or a fraud proof, offline. Exit 3 when anything is wrong."""
    terminal = Terminal(json_output)
    trusted = frozenset(parse_node_id(key) for key in trust) if trust else None
    with file.open("rb") as opened:
        data = opened.read(max(MAX_RECEIPT, MAX_FRAUD) + 1)
    if is_fraud(data):
        verdict = verify_fraud(data)
        terminal.show(fraud.facts(verdict), lambda console: fraud.show(console, verdict))
        return
    verified = verify_receipt(data, trusted)
    terminal.show(_facts(verified), lambda console: _show(console, verified))


def _facts(verified: VerifiedReceipt) -> dict[str, object]:
    trade, head = verified.trade, verified.head
    return {
        "verified": True,
        "trade_id": verified.record_id.hex(),
        "amount_trm": trade.amount,
        "payer": trade.payer.hex(),
        "provider": trade.provider.hex(),
        "prompt_tokens": trade.prompt_tokens,
        "completion_tokens": trade.completion_tokens,
        "flop": str(trade.flop),
        "model_digest": trade.model_digest.hex(),
        "network": trade.network,
        "network_hash": head.network_hash.hex(),
        "scope": SCOPES[trade.scope],
        "at_ms": trade.at_ms,
        "log_node": head.node.hex(),
        "log_size": head.size,
        "log_root": head.root.hex(),
        "leaf_index": verified.leaf_index,
        "trusted_keys": "named" if verified.trusted else "receipt",
    }


def _show(console: Console, verified: VerifiedReceipt) -> None:
    trade, head = verified.trade, verified.head
    found = {
        "Trade": verified.record_id.hex(),
        "Amount": f"{trade.amount} TRM, at most {verified.acceptance.ceiling} were accepted",
        "Work": f"{trade.prompt_tokens} + {trade.completion_tokens} tokens, {trade.flop:,} FLOP",
        "Model": trade.model_digest.hex(),
        "When": when(trade.at_ms),
        "Network": f"{trade.network}, rules {head.network_hash.hex()}",
        "Scope": SCOPES[trade.scope],
        "Payer signed": trade.payer.hex(),
        "Provider signed": trade.provider.hex(),
        "Acceptance": "signed by the payer; same parties, numbers and quote",
        "Place in log": f"leaf {verified.leaf_index} of {head.size}, root {head.root.hex()}",
        "Log signed by": head.node.hex(),
    }
    console.print("[bold green]Receipt verified[/]")
    fields(console, "", found)
    if verified.trusted:
        console.print("Provider and log are among the keys you named.")
    else:
        console.print(
            "No keys were named with --trust: this proves that the keys above signed, not whose keys they are.",
            style="yellow",
        )
