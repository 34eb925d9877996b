"""Claims: what payers elsewhere have promised this node and not yet paid (PROTOCOL B7, B11).

The mirror of :mod:`tirami.ledger.holds`: a claim opens with an acceptance, grows with each voucher, and ends in a trade
when this node signs the last one. A pure fold over claim entries; how much this node lends to whom is computed from it.
"""

from collections import deque
from dataclasses import dataclass, field

from tirami.core.units import DAY_MS, Trm, UnixMs
from tirami.ledger.entries import Claim, ClaimDropped, ClaimOpened, ClaimSettled, ClaimVouched
from tirami.proto import Cited, Voucher, cited_in


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
class _Debtor:
    """One payer: its open claims, and what it paid in the last 24 hours."""

    open: set[bytes] = field(default_factory=set)
    paid: deque[tuple[int, Trm]] = field(default_factory=deque)


class Claims:
    """All open claims of this node."""

    def __init__(self) -> None:
        self.open: dict[bytes, OpenClaim] = {}
        self._debtors: dict[bytes, _Debtor] = {}

    def apply(self, claim: Claim, at_ms: UnixMs) -> None:
        match claim:
            case ClaimOpened():
                self.open[claim.id] = OpenClaim(claim, at_ms)
                self._debtors.setdefault(claim.payer, _Debtor()).open.add(claim.id)
            case ClaimVouched():
                self.open[claim.id].vouched = claim
            case ClaimSettled():
                ended = self._ended(claim.id)
                self._paid(ended, at_ms)
            case ClaimDropped():
                self._ended(claim.id)

    def of(self, payer: bytes) -> list[OpenClaim]:
        """Open claims against one payer."""
        debtor = self._debtors.get(payer)
        return [self.open[claim_id] for claim_id in debtor.open] if debtor else []

    def within_day(self, payer: bytes, now_ms: UnixMs) -> Trm:
        """TRM this node took or may yet take from ``payer`` in the last 24 hours: what U bounds (B6)."""
        debtor = self._debtors.get(payer)
        if debtor is None:
            return Trm(0)
        ceilings = sum(self.open[claim_id].opened.ceiling for claim_id in debtor.open)
        return Trm(ceilings + sum(amount for at_ms, amount in debtor.paid if at_ms > now_ms - DAY_MS))

    def _ended(self, claim_id: bytes) -> OpenClaim:
        claim = self.open.pop(claim_id)
        debtor = self._debtors[claim.opened.payer]
        debtor.open.discard(claim_id)
        if not (debtor.open or debtor.paid):
            del self._debtors[claim.opened.payer]
        return claim

    def _paid(self, claim: OpenClaim, at_ms: UnixMs) -> None:
        paid = self._debtors.setdefault(claim.opened.payer, _Debtor()).paid
        paid.append((at_ms, claim.amount))
        while paid[0][0] <= at_ms - DAY_MS:
            paid.popleft()
