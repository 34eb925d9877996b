"""The one gate before money is promised (PROTOCOL B13): a pure decision, deny when unsure.

Gates stand at the hold, at the acceptance and at every voucher. Capture, countersigning and receiving are never
gated: what was promised before a kill is still booked.
"""

from dataclasses import dataclass
from enum import StrEnum

from tirami.core.errors import (
    AccountDisabled,
    BudgetExceeded,
    InsufficientFunds,
    KillSwitchActive,
    SafetyUnknown,
    SpendDenied,
)
from tirami.core.units import Trm, UnixMs
from tirami.ledger.entries import KillSet
from tirami.ledger.holds import PayerBooks


@dataclass(frozen=True, slots=True)
class Policy:
    """Budgets of one account in TRM; ``None`` switches that budget off."""

    per_request: int | None = 4_000
    per_hour: int | None = 10_000
    lifetime: int | None = 1_000_000


OWNER_POLICY = Policy(per_request=None, per_hour=None, lifetime=None)
"""The node's own local use: kill switch yes, budgets no (RULINGS, The owner)."""


class Window(StrEnum):
    REQUEST = "request"
    HOUR = "hour"
    LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True)
class Means:
    """What an account can promise now.

    Attributes:
        available: TRM not promised elsewhere, the open part of its credit line included; ``None`` without bound.
        policy: its budgets; ``None`` for an account nobody knows.
        disabled: switched off by an operator.
    """

    available: Trm | None
    policy: Policy | None
    disabled: bool


def refusal(kill: KillSet | None, means: Means, books: PayerBooks, amount: Trm, now_ms: UnixMs) -> SpendDenied | None:
    """Why ``amount`` must not be promised, or ``None``. The first reason wins: kill, account, budgets, funds."""
    if kill is not None and kill.active:
        return KillSwitchActive(f"all TRM transactions are frozen: {kill.reason or 'no reason given'}")
    if means.policy is None:
        return SafetyUnknown("nobody has set a policy for this account")
    if means.disabled:
        return AccountDisabled("this account is disabled")
    for window, limit, spent in _budgets(means.policy, books, now_ms):
        if limit is not None and spent + amount > limit:
            return BudgetExceeded(
                f"{amount} TRM would exceed the budget of {limit} TRM per {window.value}",
                limit=limit,
                window=window.value,
                spent=spent,
            )
    if means.available is not None and amount > means.available:
        return InsufficientFunds(
            f"{amount} TRM are needed, {max(means.available, 0)} are available",
            needed=amount,
            available=max(means.available, 0),
        )
    return None


def headroom(means: Means, books: PayerBooks, now_ms: UnixMs) -> Trm | None:
    """The largest amount the gate would let pass now, kill switch aside; ``None`` without bound."""
    bounds = [] if means.available is None else [int(means.available)]
    if means.policy is not None:
        bounds += [limit - spent for _, limit, spent in _budgets(means.policy, books, now_ms) if limit is not None]
    return Trm(max(0, min(bounds))) if bounds else None


def _budgets(policy: Policy, books: PayerBooks, now_ms: UnixMs) -> tuple[tuple[Window, int | None, Trm], ...]:
    return (
        (Window.REQUEST, policy.per_request, Trm(0)),
        (Window.HOUR, policy.per_hour, books.spent_in_hour(now_ms)),
        (Window.LIFETIME, policy.lifetime, books.lifetime),
    )
