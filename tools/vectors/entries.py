"""Entries of a small journal: the life of the sample node, chained."""

from collections.abc import Sequence

from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AT, NETWORK, NODE, PAYER, QUOTE, TRADE

from tirami.core.keys import SigningKey, journal_key
from tirami.ledger.entries import (
    Content,
    HeadPublished,
    HoldCaptured,
    HoldOpened,
    HoldVouched,
    JournalOpened,
    KillSet,
    NodeStarted,
    encode_content,
    kind_of,
)
from tirami.ledger.journal import GENESIS, SCHEMA_VERSION, chain_hash
from tirami.ledger.segments import Segment
from tirami.ledger.tip import Tip, pack_tip
from tirami.proto import Head, encode, leaf, record_id, sign
from tirami.verify import leaf_hash
from tools.vectors.case import Case, replaced

Row = tuple[int, int, int, bytes, bytes]
COLUMNS = ("seq", "kind", "at_ms", "body", "chain")
JOURNAL_KEY = journal_key(NODE)


def chained(contents: Sequence[tuple[int, Content]], key: bytes = JOURNAL_KEY) -> list[Row]:
    """(seq, kind, at_ms, body, chain) of every entry."""
    rows, chain = [], GENESIS
    for seq, (at_ms, content) in enumerate(contents, start=1):
        kind, body = int(kind_of(content)), encode_content(content)
        chain = chain_hash(key, chain, seq, kind, at_ms, body)
        rows.append((seq, kind, at_ms, body, chain))
    return rows


def journal_contents(head: Head | None = None, signer: SigningKey = NODE) -> list[tuple[int, Content]]:
    """A small life of one node; the head it signed is over its one record."""
    envelope = samples.trade_envelope()
    head = head or replaced(samples.HEAD, size=1, root=leaf_hash(leaf(envelope)))
    hold_id, accepted = b"\x0e" * 16, ACCEPTANCE
    opened = HoldOpened(
        id=hold_id,
        account=accepted.payer,
        scope=0,
        incarnation=0,
        number=accepted.number,
        ceiling=accepted.ceiling,
        purpose="inference",
        expires_ms=AT + 600_002,
        request_id="req-1",
        acceptance=encode(accepted),
        acceptance_signature=sign(accepted, PAYER),
        quote=encode(QUOTE),
        quote_signature=sign(QUOTE, NODE),
    )
    return [
        (AT, JournalOpened(SCHEMA_VERSION, NODE.public_key, NETWORK.id, NETWORK.hash)),
        (AT, NodeStarted(AT, 0, head.log_id, NETWORK.hash)),
        (AT + 2, opened),
        (AT + 900, HoldVouched(hold_id, TRADE.amount, envelope.body, envelope.signatures[0], AT + 600_900)),
        (AT + 901, envelope),
        (AT + 901, HoldCaptured(hold_id, record_id(TRADE), TRADE.amount)),
        (AT + 1_000, HeadPublished(encode(head), sign(head, signer))),
        (AT + 2_000, KillSet(True, "maintenance", "operator")),
    ]


def slot(row: Row, key: bytes = JOURNAL_KEY) -> bytes:
    """Half a tip file, for this entry."""
    return pack_tip(Tip(row[0], row[4]), key).ljust(512, b"\x00")


def files(found: Sequence[Row]) -> Case:
    """Which entries of the small journal are on disk, and those that differ from it."""
    known = {row[0]: row for row in chained(journal_contents())}
    differing = [dict(zip(COLUMNS, row, strict=True)) for row in found if row != known.get(row[0])]
    return {"present": [row[0] for row in found], "changed": differing}


def segment_case(segment: Segment) -> Case:
    """The columns of a segment."""
    names = ("first", "last", "chain", "seal", "data")
    return {name: getattr(segment, name) for name in names}
