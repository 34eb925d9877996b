"""Trades, records, proofs, receipts, heads: the auditor's door."""

from typing import TypeVar

from starlette.responses import Response

from tirami.api.schemas import (
    ConsistencyQuery,
    ConsistencyReply,
    HeadEntry,
    ProofReply,
    RecordEntry,
    RecordsQuery,
    RecordsReply,
    StateReply,
    TradeEntry,
    TradesQuery,
    TradesReply,
)
from tirami.core.errors import InvalidField, InvalidProof, NotFound, RecordNotFound, TradeNotFound
from tirami.core.keys import PublicKey
from tirami.ledger import SignedHead, StoredRecord
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles
from tirami.node.http.records import record_entries, record_entry
from tirami.node.http.trades import trade_entries, trade_entry
from tirami.proto import Trade, parties

Row = TypeVar("Row", TradeEntry, RecordEntry)


@handles("trades", shows_book=True)
async def trades(call: Call) -> TradesReply:
    query: TradesQuery = call.query
    page = trade_entries(call.parts, query, _party(call, query.node))
    if not query.proofs:
        return page
    proved, head = await _proved(call, page.trades)
    return page.model_copy(update={"trades": proved, "head": head})


@handles("trade", shows_book=True)
async def trade(call: Call) -> TradeEntry:
    stored, body = _visible_trade(call)
    return trade_entry(call.parts, stored, body, signatures=True)


@handles("trade_proof")
async def trade_proof(call: Call) -> ProofReply:
    stored, _ = _visible_trade(call)
    return await _proof_of(call, stored)


@handles("trade_receipt")
async def trade_receipt(call: Call) -> Response:
    stored, _ = _visible_trade(call)
    receipt = await call.parts.heads.receipt(stored.record_id)
    return Response(receipt, media_type="application/json")


@handles("records", shows_book=True)
async def records(call: Call) -> RecordsReply:
    query: RecordsQuery = call.query
    page = record_entries(call.parts, query, _party(call, query.node))
    if not query.proofs:
        return page
    proved, head = await _proved(call, page.records)
    return page.model_copy(update={"records": proved, "head": head})


@handles("record", shows_book=True)
async def record(call: Call) -> RecordEntry:
    return record_entry(call.parts, _visible(call, RecordNotFound), signatures=True)


@handles("record_proof")
async def record_proof(call: Call) -> ProofReply:
    return await _proof_of(call, _visible(call, RecordNotFound))


@handles("log_head")
async def log_head(call: Call) -> HeadEntry:
    return head_entry(await call.parts.heads.current())


@handles("log_consistency")
async def log_consistency(call: Call) -> ConsistencyReply:
    query: ConsistencyQuery = call.query
    try:
        proof = call.parts.heads.consistency(query.first, query.second)
    except InvalidProof as error:
        raise InvalidField(error.message, param=error.param) from error
    return ConsistencyReply(first=query.first, second=query.second, proof=[node.hex() for node in proof])


@handles("log_state", shows_book=True)
async def log_state(call: Call) -> StateReply:
    ledger = call.parts.ledger
    book = ledger.state.book
    return StateReply(
        network_hash=ledger.network.hash.hex(),
        state_hash=book.state_hash().hex(),
        own_state_hash=book.own_state_hash().hex(),
        records=ledger.state.log.size,
        accounts=len(book.balances()),
        sum_of_accounts=book.imbalance(),
    )


async def _proof_of(call: Call, stored: StoredRecord) -> ProofReply:
    found = await call.parts.heads.inclusion(stored.record_id)
    return ProofReply(
        id=stored.record_id.hex(),
        leaf_index=stored.leaf_index,
        proof=[node.hex() for node in found.path],
        head=head_entry(found.head),
    )


async def _proved(call: Call, rows: list[Row]) -> tuple[list[Row], HeadEntry]:
    """Each row with its audit path to one head, where that covers it."""
    signed, log = await call.parts.heads.current(), call.parts.ledger.state.log
    proved = [
        row.model_copy(update={"proof": [node.hex() for node in log.inclusion(row.leaf_index, signed.head.size)]})
        if row.leaf_index < signed.head.size
        else row
        for row in rows
    ]
    return proved, head_entry(signed)


def _party(call: Call, node: str | None) -> PublicKey | None:
    """Whose records are listed: of the account named, else the caller's own; ``None`` for all, the owner's right."""
    return call.caller.account if node is None else visible_account(call, node)


def _visible(call: Call, missing: type[NotFound]) -> StoredRecord:
    """The record of the path; one of others does not exist for a token bound to an account."""
    stored, account = call.parts.ledger.state.stored(call.digest(missing)), call.caller.account
    if stored is None or (account is not None and account not in parties(stored.body)):
        raise missing("nothing in this book has this id", param="id")
    return stored


def _visible_trade(call: Call) -> tuple[StoredRecord, Trade]:
    stored = _visible(call, TradeNotFound)
    if not isinstance(stored.body, Trade):
        raise TradeNotFound("this record is no trade", param="id")
    return stored, stored.body


def head_entry(signed: SignedHead) -> HeadEntry:
    head = signed.head
    return HeadEntry(
        network=head.network,
        network_hash=head.network_hash.hex(),
        log_id=head.log_id.hex(),
        node=head.node.hex(),
        size=head.size,
        root=head.root.hex(),
        at_ms=head.at_ms,
        body=signed.body.hex(),
        signature=signed.signature.hex(),
    )
