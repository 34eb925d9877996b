"""Trades, proofs, receipts, heads: the auditor's door."""

from starlette.responses import Response

from tirami.api.schemas import (
    ConsistencyQuery,
    ConsistencyReply,
    HeadEntry,
    ProofReply,
    StateReply,
    TradeEntry,
    TradesQuery,
    TradesReply,
)
from tirami.core.errors import InvalidField, InvalidProof, TradeNotFound
from tirami.core.keys import Digest
from tirami.ledger import SignedHead, StoredRecord
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles
from tirami.node.http.trades import trade_entries, trade_entry
from tirami.proto import Trade


@handles("trades", shows_book=True)
async def trades(call: Call) -> TradesReply:
    query: TradesQuery = call.query
    party = call.caller.account if query.node is None else visible_account(call, query.node)
    page = trade_entries(call.parts, query, party)
    return await _proved(call, page) if query.proofs else page


@handles("trade", shows_book=True)
async def trade(call: Call) -> TradeEntry:
    stored, body = _visible_trade(call)
    return trade_entry(call.parts, stored, body, signatures=True)


@handles("trade_proof")
async def trade_proof(call: Call) -> ProofReply:
    stored, _ = _visible_trade(call)
    found = await call.parts.heads.inclusion(stored.record_id)
    return ProofReply(
        id=stored.record_id.hex(),
        leaf_index=stored.leaf_index,
        proof=[node.hex() for node in found.path],
        head=head_entry(found.head),
    )


@handles("trade_receipt")
async def trade_receipt(call: Call) -> Response:
    stored, _ = _visible_trade(call)
    receipt = await call.parts.heads.receipt(stored.record_id)
    return Response(receipt, media_type="application/json")


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


async def _proved(call: Call, page: TradesReply) -> TradesReply:
    signed, log = await call.parts.heads.current(), call.parts.ledger.state.log
    trades = [
        entry.model_copy(update={"proof": [node.hex() for node in log.inclusion(entry.leaf_index, signed.head.size)]})
        if entry.leaf_index < signed.head.size
        else entry
        for entry in page.trades
    ]
    return page.model_copy(update={"trades": trades, "head": head_entry(signed)})


def _visible_trade(call: Call) -> tuple[StoredRecord, Trade]:
    """The trade of the path; one of somebody else does not exist for a token bound to an account."""
    record_id: Digest = call.digest(TradeNotFound)
    stored = call.parts.ledger.state.stored(record_id)
    if stored is None or not isinstance(stored.body, Trade):
        raise TradeNotFound("no such trade", param="id")
    account = call.caller.account
    if account is not None and account not in (stored.body.payer, stored.body.provider):
        raise TradeNotFound("no such trade", param="id")
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
