"""Claims: what payers elsewhere have promised this node and not yet paid (PROTOCOL B7, B11).

The mirror of :mod:`tirami.ledger.holds`: a claim opens with an acceptance, grows with each voucher, and ends in a trade
when this node signs the last one. A pure fold over claim entries; how much this node lends to whom is computed from it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from tirami.core.units import DAY_MS, Trm, UnixMs
from tirami.ledger.entries import Claim, ClaimDropped, ClaimOpened, ClaimSettled, ClaimVouched
from tirami.proto import Cited, Voucher, cited_in

DEBTORS: Final = 65_536
"""Payers remembered: those of the last day, and of more than that the last ones."""
SWEPT: Final = 8
"""Looked at, each time a session ends, whether they are to be forgotten."""


@dataclass(slots=True)
class OpenClaim:
    """A running session that somebody else pays, with its newest voucher, if any."""

    opened: ClaimOpened
    opened_ms: UnixMs
    vouched: ClaimVouched | None = None

    @property
    def amount(self) -> Trm:
        """TRM the payer has signed for."""
        return Trm(self.vouched.amount if self.vouched else 0)

    @property
    def pieces(self) -> tuple[Cited, ...]:
        """What the payer has signed in it: of its vouchers the newest."""
        if (voucher := self.voucher) is not None:
            return cited_in(voucher)
        return (Cited("acceptance", self.opened.acceptance, self.opened.acceptance_signature),)

    @property
    def voucher(self) -> Voucher | None:
        """The newest voucher with the acceptance it stands under."""
        if self.vouched is None:
            return None
        return Voucher(
            trade_body=self.vouched.trade_body,
            payer_signature=self.vouched.payer_signature,
            acceptance_body=self.opened.acceptance,
            acceptance_signature=self.opened.acceptance_signature,
        )


@dataclass(slots=True)
class Debtor:
    """One payer: its open claims, and what it paid, and what it was given and did not pay, in the last 24 hours."""

    open: set[bytes] = field(default_factory=set)
    paid: deque[tuple[int, Trm]] = field(default_factory=deque)
    unpaid: deque[tuple[int, Trm]] = field(default_factory=deque)
    last_ms: int = 0

    def paid_since(self, at_ms: int) -> Trm:
        return _sum_since(self.paid, at_ms)

    def unpaid_since(self, at_ms: int) -> Trm:
        return _sum_since(self.unpaid, at_ms)

    def forget(self, at_ms: int) -> None:
        for sums in (self.paid, self.unpaid):
            while sums and sums[0][0] <= at_ms:
                sums.popleft()


NOBODY = Debtor()


class Claims:
    """All open claims of this node, and the last day of those who had one."""

    def __init__(self) -> None:
        self.open: dict[bytes, OpenClaim] = {}
        self._debtors: dict[bytes, Debtor] = {}
        """Who ended a session last stands at the end."""

    def apply(self, claim: Claim, at_ms: UnixMs) -> None:
        match claim:
            case ClaimOpened():
                self.open[claim.id] = OpenClaim(claim, at_ms)
                self._debtors.setdefault(claim.payer, Debtor()).open.add(claim.id)
            case ClaimVouched():
                self.open[claim.id].vouched = claim
            case ClaimSettled() | ClaimDropped():
                self._end(claim, at_ms)

    def of(self, payer: bytes) -> list[OpenClaim]:
        """Open claims against one payer."""
        return [self.open[claim_id] for claim_id in self._debtors.get(payer, NOBODY).open]

    def within_day(self, payer: bytes, now_ms: UnixMs) -> Trm:
        """TRM this node gave or may yet give to ``payer`` in the last 24 hours, paid or not: what U bounds (B6)."""
        debtor, since = self._debtors.get(payer, NOBODY), now_ms - DAY_MS
        ceilings = sum(self.open[claim_id].opened.ceiling for claim_id in debtor.open)
        return Trm(ceilings + debtor.paid_since(since) + debtor.unpaid_since(since))

    def debtor(self, payer: bytes) -> Debtor:
        return self._debtors.get(payer, NOBODY)

    def debtors(self, now_ms: UnixMs) -> Iterator[tuple[bytes, Debtor]]:
        """Payers that were given something in the last 24 hours and did not pay it."""
        return ((payer, one) for payer, one in self._debtors.items() if one.unpaid_since(now_ms - DAY_MS))

    def _end(self, claim: ClaimSettled | ClaimDropped, at_ms: UnixMs) -> None:
        ended = self.open.pop(claim.id)
        payer = ended.opened.payer
        debtor = self._debtors[payer] = self._debtors.pop(payer)
        debtor.open.discard(claim.id)
        debtor.forget(at_ms - DAY_MS)
        debtor.last_ms = at_ms
        if isinstance(claim, ClaimSettled):
            debtor.paid.append((at_ms, ended.amount))
        if claim.unpaid:
            debtor.unpaid.append((at_ms, Trm(claim.unpaid)))
        self._forget(at_ms)

    def _forget(self, at_ms: UnixMs) -> None:
        """Who ended nothing for a day, from the front; and whoever is one too many."""
        for payer, debtor in list(islice(self._debtors.items(), SWEPT)):
            if debtor.open:
                continue
            idle = debtor.last_ms <= at_ms - DAY_MS or not (debtor.paid or debtor.unpaid)
            if idle or len(self._debtors) > DEBTORS:
                del self._debtors[payer]


def _sum_since(sums: Iterable[tuple[int, Trm]], at_ms: int) -> Trm:
    return Trm(sum(amount for when, amount in sums if when > at_ms))
