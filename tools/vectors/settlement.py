"""Vectors of TIP-10: settlement statements and anchors."""

import hashlib
import json
from functools import partial

from tests.proto import samples
from tests.proto.samples import AGENT, AT, INDEX, NODE, STATEMENT, TRADE

from tirami.core.keys import SigningKey
from tirami.proto import (
    AnchorNetwork,
    Statement,
    StatementTrade,
    anchor_payload,
    anchor_script,
    encode,
    sign,
    statement_trade,
)
from tirami.proto.statement import FORMAT, csv_end, csv_header, csv_row
from tirami.verify import Tally, verify_statement
from tools.vectors.case import Case, case, plain, replaced, verdict
from tools.vectors.tables import fenced

ROOTS = {
    "zero": bytes(32),
    "2a": b"\x2a" * 32,
    "V-MK-2": bytes.fromhex("110e249399d10540448e51ce5dd501db78f5005ca914e8d7f5b9f874ee67113c"),
    "08 §3.8": bytes.fromhex("8edd724d48ce205d49ac42d683c4a624fdffe80936d5c184c5dd225579a673e8"),
}


def row(index: int = INDEX, booked_ms: int = AT + 1_000) -> StatementTrade:
    envelope = samples.trade_envelope()
    return statement_trade(index, booked_ms, envelope.body, *envelope.signatures)


def over(*rows: StatementTrade) -> Statement:
    """The statement of the samples over these rows."""
    tally = Tally()
    for entry in rows:
        tally.add(entry)
    sums = {"trades": tally.trades, "volume": tally.volume, "root": tally.root.root()}
    statement: Statement = replaced(STATEMENT, rows_hash=tally.rows.digest(), **sums)
    return statement


def as_csv(statement: Statement, *rows: StatementTrade, signer: SigningKey = NODE) -> bytes:
    end = csv_end(encode(statement), sign(statement, signer), None)
    return "".join((csv_header(), *map(csv_row, rows), end)).encode()


def as_json(statement: Statement, *rows: StatementTrade, **summary: object) -> bytes:
    tally = Tally()
    for entry in rows:
        tally.add(entry)
    document = {
        "format": FORMAT,
        "trades": [{name: getattr(entry, name) for name in entry.__struct_fields__} for entry in rows],
        "network": statement.network,
        "network_hash": statement.network_hash.hex(),
        "node_id": statement.node.hex(),
        "account": statement.account.hex() if any(statement.account) else None,
        "window_start": statement.since_ms,
        "window_end": statement.until_ms,
        "generated_at": statement.at_ms,
        "reference_price_per_trm": None,
        "reference_price_per_cu": None,
        "trade_count": statement.trades,
        "total_trm_transferred": statement.volume,
        "merkle_root": statement.root.hex(),
        "nodes": plain(tally.nodes(None)),
        "next_cursor": None,
        "statement": encode(statement).hex(),
        "signature": sign(statement, NODE).hex(),
    }
    return json.dumps(document | summary, separators=(",", ":")).encode()


def signed_over(*rows: StatementTrade) -> bytes:
    return as_csv(over(*rows), *rows)


def vectors() -> Case:
    good = row()
    nothing = hashlib.sha256(b"").digest()
    empty = replaced(STATEMENT, trades=0, volume=0, root=nothing, rows_hash=nothing)
    stranger = SigningKey.from_seed(b"\x09" * 32)
    files = [
        ("good", as_json(STATEMENT, good)),
        ("good, as a table", as_csv(STATEMENT, good)),
        ("no trades", as_csv(empty)),
        ("no trades, JSON", as_json(empty)),
        ("one account", as_csv(replaced(STATEMENT, account=TRADE.payer), good)),
        ("the leaf before", signed_over(row(INDEX - 1))),
        ("the leaf before, not signed", as_csv(STATEMENT, row(INDEX - 1))),
        ("booked later, not signed", as_csv(STATEMENT, row(booked_ms=AT + 1_001))),
        ("signed by a stranger", as_csv(STATEMENT, good, signer=stranger)),
        ("a trade missing", as_csv(STATEMENT)),
        ("a trade twice", signed_over(good, good)),
        ("another count", as_csv(replaced(STATEMENT, trades=2), good)),
        ("another sum", as_csv(replaced(STATEMENT, volume=TRADE.amount + 1), good)),
        ("another root", as_csv(replaced(STATEMENT, root=bytes(32)), good)),
        ("another network", as_csv(replaced(STATEMENT, network="other"), good)),
        ("somebody else's account", as_csv(replaced(STATEMENT, account=AGENT.public_key), good)),
        ("a leaf before the first", signed_over(row(STATEMENT.first - 1))),
        ("the leaf at the end", signed_over(row(STATEMENT.end))),
        ("booked before the window", signed_over(row(booked_ms=STATEMENT.since_ms - 1))),
        ("booked at its end", signed_over(row(booked_ms=STATEMENT.until_ms))),
        ("a readable amount of its own", as_csv(STATEMENT, replaced(good, trm_amount=TRADE.amount + 1))),
        ("payer's signature by another", as_csv(STATEMENT, replaced(good, payer_signature=good.provider_signature))),
        ("a summary with another sum", as_json(STATEMENT, good, total_trm_transferred=TRADE.amount + 1)),
        ("nodes that do not add up", as_json(STATEMENT, good, nodes=[])),
        ("two prices", as_json(STATEMENT, good, reference_price_per_cu=1.0)),
        ("a next leaf of its own", as_json(STATEMENT, good, next_cursor=1)),
        ("a foreign field", as_json(STATEMENT, good, colour="red")),
        ("a later format", as_json(STATEMENT, good, format="tirami/2/settlement")),
        ("columns of its own", as_csv(STATEMENT, good).replace(b"id,leaf_index", b"leaf_index,id", 1)),
        ("no last row", as_csv(STATEMENT, good).split(b"#statement")[0]),
        ("something after the last row", as_csv(STATEMENT, good) + b"x\r\n"),
        ("nothing", b""),
    ]
    return {
        "files": [case(name, text=data.decode(), **verdict(partial(verify_statement, data))) for name, data in files],
        "anchors": [
            case(f"{name}, {network.name.lower()}", root=root, chain=network.value, payload=payload,
                 script=anchor_script(payload))
            for name, root in ROOTS.items()
            for network in AnchorNetwork
            for payload in [anchor_payload(root, network)]
        ],
    }  # fmt: skip


def example() -> list[str]:
    payload = anchor_payload(ROOTS["08 §3.8"], AnchorNetwork.MAINNET)
    statement = encode(STATEMENT)
    return fenced(
        f"statement  {statement.hex()}",
        f"signature  {sign(STATEMENT, NODE).hex()}",
        f"anchor     {anchor_script(payload).hex()}",
    )
