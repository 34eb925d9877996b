"""Approvals: spends that wait for a person, and the permits that come of it. A fold over facts and holds.

A request lives ten minutes; approved, it becomes a permit of one account up to one ceiling, for ten minutes and one
use. The use stands in the promise it allows (``HoldOpened.permit``) or in one group with it, so no crash and no race
uses a permit twice. While a hold that uses it is open nobody else may; a charge uses it up. Where nothing was charged
(the provider failed, the client left) nothing was bought, so the permit is as good as before.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tirami.core.errors import ApprovalNotFound, Conflict
from tirami.core.units import Trm, UnixMs
from tirami.ledger.entries import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalUsed,
    Hold,
    HoldCaptured,
    HoldOpened,
    HoldOwed,
    HoldReleased,
)
from tirami.ledger.holds import OpenHold

REQUEST_MS = 600_000
"""How long a request waits for a person."""
PERMIT_MS = 600_000
"""How long a permit lasts from its approval."""
MAX_PER_ACCOUNT = 8
MAX_LIVE = 100
"""Requests and unused permits, of one account and of all. A refused one keeps its place until it expires."""


class Verdict(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(slots=True)
class Approval:
    """A request, and what became of it.

    Attributes:
        id: 32 random bytes.
        account: who asked; nobody else can use the permit.
        ceiling: the most the permitted spend may cost, TRM.
        requested_ms, expires_ms: Unix milliseconds; a decision moves the latter.
        factor: load factor of the price it was quoted at, parts per million; 0 for a spend that has none.
        verdict: a :class:`Verdict`.
        operator: who decided.
        holds: ids of the open holds that use it, those of one decision; then nobody else may.
    """

    id: bytes
    account: bytes
    ceiling: int
    requested_ms: int
    expires_ms: int
    factor: int = 0
    verdict: str = Verdict.PENDING.value
    operator: str = ""
    holds: set[bytes] = field(default_factory=set)

    def permits(self, amount: int) -> bool:
        return self.verdict == Verdict.APPROVED and amount <= self.ceiling


@dataclass(slots=True)
class Approvals:
    """Everything asked and not yet used up or forgotten, oldest first."""

    by_id: dict[bytes, Approval] = field(default_factory=dict)

    def apply(self, fact: ApprovalRequested | ApprovalDecided | ApprovalUsed, at_ms: UnixMs) -> None:
        match fact:
            case ApprovalRequested():
                self.by_id = {approval.id: approval for approval in self.live(at_ms)}
                asked = Approval(fact.id, fact.account, fact.ceiling, at_ms, fact.expires_ms, fact.factor)
                self.by_id[fact.id] = asked
            case ApprovalDecided():
                approval = self.by_id[fact.id]
                approval.verdict = (Verdict.APPROVED if fact.approved else Verdict.DENIED).value
                approval.operator, approval.expires_ms = fact.operator, fact.expires_ms
            case ApprovalUsed():
                del self.by_id[fact.id]

    def follow(self, hold: Hold, session: OpenHold | None) -> None:
        """What a hold means for the permit it uses; ``session``: the open one it is about, as it stood before it."""
        permit = hold.permit if isinstance(hold, HoldOpened) else session.opened.permit if session is not None else b""
        if (approval := self.by_id.get(permit)) is None:
            return
        match hold:
            case HoldOpened():
                approval.holds.add(hold.id)
            case HoldReleased():
                approval.holds.discard(hold.id)
            case HoldCaptured() | HoldOwed():
                del self.by_id[permit]

    def live(self, now_ms: int, account: bytes | None = None) -> list[Approval]:
        """What has not expired, oldest first; of one account when given."""
        return [
            approval
            for approval in self.by_id.values()
            if now_ms < approval.expires_ms and account in (None, approval.account)
        ]

    def shown(self, approval_id: bytes, account: bytes, now_ms: int) -> Approval | None:
        """The live approval of this id, if it belongs to ``account`` and no open hold uses it."""
        approval = self.by_id.get(approval_id)
        if approval is None or approval.account != account or now_ms >= approval.expires_ms or approval.holds:
            return None
        return approval

    def waiting(self, account: bytes, ceiling: Trm, now_ms: int) -> Approval | None:
        """The request that already waits for the very same: a client that tries again does not queue twice."""
        for approval in self.live(now_ms, account):
            if approval.verdict == Verdict.PENDING and approval.ceiling == ceiling:
                return approval
        return None

    def full(self, account: bytes, now_ms: int) -> bool:
        return len(self.live(now_ms, account)) >= MAX_PER_ACCOUNT or len(self.live(now_ms)) >= MAX_LIVE

    def decision(self, approval_id: bytes, approved: bool, operator: str, now_ms: UnixMs) -> ApprovalDecided:
        """The fact that decides a waiting request. Raises ``ApprovalNotFound``, ``Conflict`` when it is decided."""
        approval = self.by_id.get(approval_id)
        if approval is None or now_ms >= approval.expires_ms:
            raise ApprovalNotFound("no such request: never made, used or expired", param="id")
        if approval.verdict != Verdict.PENDING:
            raise Conflict(f"this request was {approval.verdict} already")
        expires_ms = now_ms + PERMIT_MS if approved else approval.expires_ms
        return ApprovalDecided(approval_id, approved, operator, expires_ms)
