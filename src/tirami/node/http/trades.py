"""Trades as clients see them."""

from typing import TypeGuard

from tirami.api.schemas import TradeEntry, TradesQuery, TradesReply
from tirami.core.keys import PublicKey
from tirami.core.units import FLOP_PER_TRM
from tirami.ledger import LOCAL, StoredRecord
from tirami.node.http.paging import page_of
from tirami.node.parts import Parts
from tirami.proto import Trade


def trade_entry(parts: Parts, stored: StoredRecord, trade: Trade, *, signatures: bool) -> TradeEntry:
    return TradeEntry(
        id=stored.record_id.hex(),
        provider=trade.provider.hex(),
        consumer=trade.payer.hex(),
        trm_amount=trade.amount,
        tokens_processed=trade.completion_tokens,
        prompt_tokens=trade.prompt_tokens,
        timestamp=trade.at_ms,
        model_id=trade.model_digest.hex(),
        flops_estimated=trade.flop,
        trm_per_gflop=round(trade.amount * FLOP_PER_TRM / trade.flop, 6) if trade.flop else 0.0,
        scope="local" if trade.scope == LOCAL else "network",
        session=trade.session,
        leaf_index=stored.leaf_index,
        applied=parts.ledger.state.book.is_applied(stored.record_id),
        signatures=[signature.hex() for signature in stored.envelope.signatures] if signatures else None,
    )


def trade_entries(parts: Parts, query: TradesQuery, party: PublicKey | None) -> TradesReply:
    """A page of the trades of ``party`` (of all, when ``None``), newest first.

    A page may be short where its cursor goes on.
    """

    def entry(stored: StoredRecord) -> TradeEntry | None:
        trade = stored.body
        return trade_entry(parts, stored, trade, signatures=query.signatures) if _wanted(trade, query) else None

    found = parts.ledger.state.newest_first(party, query.cursor)
    page, next_cursor = page_of(found, query.limit, entry)
    return TradesReply(count=len(page), trades=page, next_cursor=next_cursor)


def _wanted(trade: object, query: TradesQuery) -> TypeGuard[Trade]:
    return (
        isinstance(trade, Trade)
        and (query.scope is None or (trade.scope == LOCAL) == (query.scope == "local"))
        and (query.model is None or trade.model_digest.hex() == query.model)
        and (query.since is None or trade.at_ms >= query.since)
        and (query.until is None or trade.at_ms < query.until)
    )
