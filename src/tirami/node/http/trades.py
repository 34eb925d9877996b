"""Trades as clients see them."""

from itertools import islice

from tirami.api.schemas import TradeEntry, TradesReply
from tirami.core.keys import PublicKey
from tirami.ledger import LOCAL, StoredRecord
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
        scope="local" if trade.scope == LOCAL else "network",
        session=trade.session,
        leaf_index=stored.leaf_index,
        applied=parts.ledger.state.book.is_applied(stored.record_id),
        signatures=[signature.hex() for signature in stored.envelope.signatures] if signatures else None,
    )


def trade_entries(
    parts: Parts, *, party: PublicKey | None, before: int | None, limit: int, signatures: bool
) -> TradesReply:
    """A page of trades, newest first, with leaf index below ``before``."""
    records = (
        (stored, stored.body)
        for stored in parts.ledger.state.newest_first(party, before)
        if isinstance(stored.body, Trade)
    )
    page = list(islice(records, limit + 1))
    entries = [trade_entry(parts, stored, trade, signatures=signatures) for stored, trade in page[:limit]]
    cursor = entries[-1].leaf_index if len(page) > limit else None
    return TradesReply(count=len(entries), trades=entries, next_cursor=cursor)
