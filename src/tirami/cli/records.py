"""Rows of ``tirami log records``: checked against what was signed, then shown."""

from enum import StrEnum

from rich.console import Console
from rich.markup import escape

from tirami.api.schemas import RecordEntry
from tirami.cli.times import when
from tirami.core.errors import InvalidProof
from tirami.proto import Head, parties
from tirami.verify import verify_inclusion, verify_record


class Kind(StrEnum):
    TRADE = "trade"
    TRANSFER = "transfer"
    GRANT = "grant"


def check_records(rows: list[RecordEntry], head: Head) -> None:
    """Each row is what its parties signed, for the head's network, and stands under the head. Raises ``InvalidProof``.

    Whether a record applied, and when it was booked, is the node's word.
    """
    for row in rows:
        try:
            body = bytes.fromhex(row.body or "")
            signatures, path = ([bytes.fromhex(part) for part in parts or ()] for parts in (row.signatures, row.proof))
        except ValueError as error:
            raise InvalidProof(f"record {row.id} is not written in hexadecimal digits", param="body") from error
        found = verify_record(row.kind, body, signatures)
        signed = (found.record_id.hex(), *(key.hex() for key in parties(found.body)), found.amount, found.body.at_ms)
        if (row.id, row.payer, row.payee, row.trm_amount, row.timestamp) != signed:
            raise InvalidProof(f"the node lists record {row.id} otherwise than it was signed", param="id")
        if found.body.network != head.network:
            raise InvalidProof(f"record {row.id} belongs to another network than the head", param="network")
        verify_inclusion(found.leaf, row.leaf_index, head.size, path, head.root)


def record_lines(console: Console, rows: list[RecordEntry]) -> None:
    for row in rows:
        ways = f"{row.payer[:16]} → {row.payee[:16]}"
        text = (
            f"{row.leaf_index:>8}  {when(row.booked_at)}  {row.trm_amount:>7} TRM  {row.kind:<8}  {ways}  {row.scope}"
        )
        console.print(f"{escape(text)}  [dim]{row.id[:16]}[/]{'' if row.applied else '  not covered'}")
