"""What a signed record says about the numbered debits of its key (PROTOCOL B2, B8): the one reading of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tirami.proto import Acceptance, Grant, Open, Record, Trade, Transfer

Series = tuple[bytes, str, int, int]
"""Key, ``payer`` or ``issuer``, incarnation, and an issuer's period (0 for a payer).

Numbers and totals of one series must agree; those of different ones have nothing to do with each other.
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """One record's word.

    Attributes:
        series: to whose numbers it belongs.
        number: of the debit it makes, promises or reports.
        amount: TRM taken under that number; 0 for an acceptance, which takes nothing yet.
        most: what the debit is or may become; an open list that gives it less contradicts it.
        settled: S, all below ``number`` that is not in ``open``; ``None`` for a trade or voucher, which has no totals.
        open: ceilings by number. A session listed twice has both, as in the declared total.
    """

    series: Series
    number: int
    amount: int
    most: int
    settled: int | None
    open: Mapping[int, int]


def claim_of(record: Record) -> Claim | None:
    """``None`` for a record that numbers no debit."""
    match record:
        case Acceptance():
            series = (record.payer, "payer", record.incarnation, 0)
            return Claim(series, record.number, 0, record.ceiling, record.settled, _ceilings(record.open))
        case Trade():
            series = (record.payer, "payer", record.incarnation, 0)
            return Claim(series, record.session, record.amount, record.amount, None, {})
        case Transfer():
            series = (record.payer, "payer", record.incarnation, 0)
            opened = _ceilings(record.open)
            return Claim(series, record.number, record.amount, record.amount, record.settled, opened)
        case Grant():
            series = (record.issuer, "issuer", record.incarnation, record.period)
            return Claim(series, record.number, record.limit, record.limit, record.settled, {})
    return None


def _ceilings(sessions: tuple[Open, ...]) -> dict[int, int]:
    ceilings: dict[int, int] = {}
    for session in sessions:
        ceilings[session.number] = ceilings.get(session.number, 0) + session.ceiling
    return ceilings
