"""The one gate before money is promised (PROTOCOL B13): a pure decision, deny when unsure.

Gates stand at the hold, at the acceptance and at every voucher. Capture, countersigning and receiving are never
gated: what was promised before a kill is still booked.
"""

from dataclasses import dataclass
from enum import StrEnum

from tirami.core.errors import (
    AccountDisabled,
    BudgetExceeded,
    CircuitBreakerOpen,
    InsufficientFunds,
    KillSwitchActive,
    SafetyUnknown,
    SpendDenied,
    VelocityExceeded,
)
from tirami.core.units import Trm, UnixMs, ceil_div
from tirami.ledger.breaker import Breaker, Circuit
from tirami.ledger.entries import KillSet
from tirami.ledger.holds import PayerBooks


@dataclass(frozen=True, slots=True)
class Policy:
    """What one account may spend; ``None`` switches that limit off.

    Attributes:
        per_request, per_hour, lifetime: budgets, TRM.
        approval_above: a larger spend waits for a person, TRM.
        per_minute: spends admitted in one sliding minute; one more trips the breaker.
    """

    per_request: int | None = 4_000
    per_hour: int | None = 10_000
    lifetime: int | None = 1_000_000
    approval_above: int | None = 500
    per_minute: int | None = 30


OWNER_POLICY = Policy(per_request=None, per_hour=None, lifetime=None, approval_above=None, per_minute=None)
"""The node's own local use: kill switch and error breaker yes, budgets, velocity, approval no (RULINGS, The owner)."""
NODE_POLICY = Policy(approval_above=None)
"""The node's own key until it is set otherwise: whoever spends for it is the administrator who would approve."""


class Window(StrEnum):
    REQUEST = "request"
    HOUR = "hour"
    LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True)
class Means:
    """What an account can promise now.

    Attributes:
        available: TRM not promised elsewhere, the open part of its credit line included; ``None`` without bound.
        policy: its limits; ``None`` for an account nobody knows.
        disabled: switched off by an operator.
    """

    available: Trm | None
    policy: Policy | None
    disabled: bool


def refusal(
    kill: KillSet | None, means: Means, books: PayerBooks, amount: Trm, now_ms: UnixMs, spends: int = 1
) -> SpendDenied | None:
    """Why ``amount``, in so many ``spends``, must not be promised, or ``None``; approval aside.

    The first reason wins: kill, account, budget a request, breaker, budgets, velocity, funds.
    """
    if kill is not None and kill.active:
        return frozen(kill)
    if means.policy is None:
        return SafetyUnknown("nobody has set a policy for this account")
    if means.disabled:
        return AccountDisabled("this account is disabled")
    request, *budgets = _budgets(means.policy, books, now_ms)
    return (
        _over(request, amount)
        or _tripped(books.breaker, now_ms, spends)
        or next(filter(None, (_over(budget, amount) for budget in budgets)), None)
        or _too_fast(means.policy.per_minute, books, now_ms, spends)
        or _unfunded(means.available, amount)
    )


def headroom(means: Means, books: PayerBooks, permitted: Trm, now_ms: UnixMs) -> Trm | None:
    """The largest amount the gate would let pass now, switches aside; ``None`` without bound.

    ``permitted`` is the ceiling of a permit at hand, 0 without one.
    """
    bounds = [] if means.available is None else [int(means.available)]
    if means.policy is not None:
        bounds += [limit - spent for _, limit, spent in _budgets(means.policy, books, now_ms) if limit is not None]
        if means.policy.approval_above is not None:
            bounds.append(max(means.policy.approval_above, permitted))
    return Trm(max(0, min(bounds))) if bounds else None


def frozen(kill: KillSet) -> KillSwitchActive:
    return KillSwitchActive(f"all TRM transactions are frozen: {kill.reason or 'no reason given'}")


Budget = tuple[Window, int | None, Trm]
"""A window, its limit and what was spent in it."""


def _budgets(policy: Policy, books: PayerBooks, now_ms: UnixMs) -> tuple[Budget, Budget, Budget]:
    return (
        (Window.REQUEST, policy.per_request, Trm(0)),
        (Window.HOUR, policy.per_hour, books.spent_in_hour(now_ms)),
        (Window.LIFETIME, policy.lifetime, books.lifetime),
    )


def _over(budget: Budget, amount: Trm) -> BudgetExceeded | None:
    window, limit, spent = budget
    if limit is None or spent + amount <= limit:
        return None
    message = f"{amount} TRM would exceed the budget of {limit} TRM per {window.value}"
    return BudgetExceeded(message, limit=limit, window=window.value, spent=spent)


def _tripped(breaker: Breaker, now_ms: UnixMs, spends: int) -> CircuitBreakerOpen | None:
    half_open = breaker.circuit(now_ms) is Circuit.HALF_OPEN
    if breaker.lets_through(now_ms) and not (half_open and spends > 1):
        return None
    state = "half open, and lets one spend through at a time" if half_open else "open"
    return CircuitBreakerOpen(
        f"the circuit breaker of this account is {state}: too many {_CAUSES[breaker.cause]}",
        retry_after=1 if half_open else ceil_div(breaker.until_ms - now_ms, 1000),
        cause=breaker.cause,
        until_ms=breaker.until_ms,
    )


_CAUSES = {"errors": "errors in a row", "velocity": "spends within a minute"}


def _too_fast(limit: int | None, books: PayerBooks, now_ms: UnixMs, more: int) -> VelocityExceeded | None:
    if limit is None or (spends := books.velocity.count(now_ms)) + more <= limit:
        return None
    message = f"{limit} spends a minute are allowed, this would be number {spends + more}; the circuit breaker opens"
    return VelocityExceeded(message, limit=limit, spends=spends)


def _unfunded(available: Trm | None, amount: Trm) -> InsufficientFunds | None:
    if available is None or amount <= available:
        return None
    left = max(available, 0)
    return InsufficientFunds(f"{amount} TRM are needed, {left} are available", needed=amount, available=left)
