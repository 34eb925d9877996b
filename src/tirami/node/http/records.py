"""Records of every kind as an auditor sees them."""

from itertools import takewhile

from tirami.api.schemas import RecordEntry, RecordsQuery, RecordsReply
from tirami.core.keys import PublicKey
from tirami.ledger import LOCAL, StoredRecord
from tirami.node.http.paging import page_of
from tirami.node.parts import Parts
from tirami.proto import Grant, parties


def record_entry(parts: Parts, stored: StoredRecord, *, signatures: bool) -> RecordEntry:
    body, envelope = stored.body, stored.envelope
    payer, payee = parties(body)
    return RecordEntry(
        id=stored.record_id.hex(),
        kind=envelope.kind,
        leaf_index=stored.leaf_index,
        scope="local" if not isinstance(body, Grant) and body.scope == LOCAL else "network",
        payer=payer.hex(),
        payee=payee.hex(),
        trm_amount=body.limit if isinstance(body, Grant) else body.amount,
        timestamp=body.at_ms,
        booked_at=stored.at_ms,
        due_at=body.due_ms if isinstance(body, Grant) else None,
        applied=parts.ledger.state.book.is_applied(stored.record_id),
        body=envelope.body.hex() if signatures else None,
        signatures=[signature.hex() for signature in envelope.signatures] if signatures else None,
        attachments=[attachment.hex() for attachment in envelope.attachments] if signatures else None,
    )


def record_entries(parts: Parts, query: RecordsQuery, party: PublicKey | None) -> RecordsReply:
    """A page of the records of ``party`` (of all, when ``None``), newest first.

    Where they stand is known by party, by kind and by time of booking: nothing else is read, but for a kind of one
    party. A page may be short where its cursor goes on.
    """
    state = parts.ledger.state
    first = 0 if query.since is None else state.first_booked_at(query.since)
    before = state.log.size if query.until is None else state.first_booked_at(query.until)
    if query.cursor is not None:
        before = min(before, query.cursor)
    if party is None and query.kind is not None:
        found = state.newest_of_kind(query.kind, before)
    else:
        found = state.newest_first(party, before)

    def entry(stored: StoredRecord) -> RecordEntry | None:
        wanted = query.kind in (None, stored.envelope.kind)
        return record_entry(parts, stored, signatures=query.signatures) if wanted else None

    page, next_cursor = page_of(takewhile(lambda stored: stored.leaf_index >= first, found), query.limit, entry)
    return RecordsReply(count=len(page), records=page, next_cursor=next_cursor)
