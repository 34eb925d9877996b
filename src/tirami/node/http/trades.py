"""Trades as clients see them."""

from typing import TypeGuard

from tirami.api.schemas import TradeEntry, TradesQuery, TradesReply
from tirami.core.keys import PublicKey
from tirami.core.units import FLOP_PER_TRM
from tirami.ledger import LOCAL, StoredRecord
from tirami.node.parts import Parts
from tirami.proto import Trade

SCANNED = 1_000
"""Records looked at for one page: each is read from the journal."""


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

    At most ``SCANNED`` records are looked at; a page that ends there may be short, and its cursor goes on.
    """
    page: list[TradeEntry] = []
    for looked_at, stored in enumerate(parts.ledger.state.newest_first(party, query.cursor)):
        trade = stored.body
        if looked_at == SCANNED:
            return TradesReply(count=len(page), trades=page, next_cursor=stored.leaf_index + 1)
        if _wanted(trade, query):
            if len(page) == query.limit:
                return TradesReply(count=len(page), trades=page, next_cursor=stored.leaf_index + 1)
            page.append(trade_entry(parts, stored, trade, signatures=query.signatures))
    return TradesReply(count=len(page), trades=page, next_cursor=None)


def _wanted(trade: object, query: TradesQuery) -> TypeGuard[Trade]:
    return (
        isinstance(trade, Trade)
        and (query.scope is None or (trade.scope == LOCAL) == (query.scope == "local"))
        and (query.model is None or trade.model_digest.hex() == query.model)
        and (query.since is None or trade.at_ms >= query.since)
        and (query.until is None or trade.at_ms < query.until)
    )
