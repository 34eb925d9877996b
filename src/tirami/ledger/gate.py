"""The gate of one node: the pure rules of :mod:`tirami.ledger.safety` over its state as it stands now.

Whoever promises money asks here first, in the same step of the event loop in which it promises. Whatever goes wrong
inside is a denial (SAF-06), and every denial is noted.
"""

from collections.abc import Callable
from contextlib import suppress

from tirami.core.errors import (
    AccountDisabled,
    ApprovalDenied,
    ApprovalRequired,
    CounterLost,
    SafetyUnknown,
    SpendDenied,
    VelocityExceeded,
)
from tirami.core.keys import PublicKey
from tirami.core.units import Ppm, Trm, UnixMs
from tirami.ledger.accounts import key_account
from tirami.ledger.approvals import REQUEST_MS, Approval, Verdict
from tirami.ledger.breaker import Trip
from tirami.ledger.denials import Denial, Denials
from tirami.ledger.entries import ApprovalRequested, BreakerTripped, Fact, HoldOpened, KillSet
from tirami.ledger.holds import MAX_OPEN
from tirami.ledger.safety import NODE_POLICY, OWNER_POLICY, Means, Policy, frozen, headroom, refusal
from tirami.ledger.state import State

NOBODY = b""
"""Account of a question that is not about one."""


def _not_started(_: int) -> bytes:
    raise SafetyUnknown("this ledger has not started")


class Gate:
    """May this account promise this amount now?

    Args:
        state: the ledger's state, asked anew each time.
        now: its clock.
        node, local_user: the keys of this node; the local user is bound by switches, not by budgets.
        write: journals a fact a denial leaves behind: a tripped breaker, a request for approval.
    """

    def __init__(
        self,
        state: Callable[[], State],
        now: Callable[[], UnixMs],
        node: PublicKey,
        local_user: PublicKey,
        write: Callable[[Fact], object],
    ) -> None:
        self._state = state
        self._now = now
        self._node = node
        self._local_user = local_user
        self._write = write
        self.random: Callable[[int], bytes] = _not_started
        """Source of approval ids; the ledger's start sets it."""
        self.denials = Denials()
        self._thrown: KillSet | None = None
        self._thrown_here_ms: UnixMs | None = None
        """When that was last done on this node itself; ``None`` once a release is written."""
        self.halted: str | None = None
        """Why this node stopped spending by itself (Σ ≠ 0), or ``None``. No switch lifts it."""

    # --- what an account has and may ---------------------------------------------------------------------------

    @property
    def thrown(self) -> KillSet | None:
        """A kill switch thrown in memory whose fact is not durable yet, or could not be written."""
        return self._thrown

    def throw(self, kill: KillSet) -> None:
        """Freeze at once, in memory, until the fact or a later one is :meth:`written`."""
        self._thrown = kill
        if not kill.order:
            self._thrown_here_ms = self._now()

    def written(self, kill: KillSet) -> None:
        """The newest position of the switch is durable."""
        self._thrown = None
        if not kill.active:
            self._thrown_here_ms = None

    @property
    def kill(self) -> KillSet | None:
        return self._thrown or self._state().settings.kill

    @property
    def thrown_here_ms(self) -> UnixMs | None:
        """When the switch was last thrown on this node itself, by no order; ``None`` if it was released since."""
        return self._thrown_here_ms or self._state().settings.thrown_here_ms

    def policy(self, account: bytes) -> Policy | None:
        """Limits of an account of this node; ``None`` for anybody else, whom the gate denies."""
        if account == self._local_user:
            return OWNER_POLICY
        settings = self._state().settings
        if account == self._node:
            return settings.policies.get(account, NODE_POLICY)
        return settings.policies.get(account, Policy()) if account in settings.accounts else None

    def line(self, account: bytes) -> Trm:
        """The part of a credit line the gate honours: nothing after its due date (B4) or right after a restart (B9)."""
        state = self._state()
        now = self._now()
        if now >= state.line_due.get(account, UnixMs(0)) or state.credit_is_young(account, now):
            return Trm(0)
        return state.book.limit(account)

    def means(self, account: bytes) -> Means:
        if account == self._local_user:
            return Means(None, OWNER_POLICY, disabled=False)
        state = self._state()
        hosted, books = state.settings.accounts.get(account), state.holds.books(account)
        cover = state.book.income(key_account(account)) + self.line(account)
        available = Trm(cover - books.settled - books.held)
        over = account in state.settings.convicted or state.succession.ended(account)
        disabled = over or (hosted is not None and hosted.disabled)
        return Means(available, self.policy(account), disabled)

    # --- questions ---------------------------------------------------------------------------------------------

    def check(
        self,
        account: bytes,
        amount: Trm,
        permit: bytes = b"",
        spends: int = 1,
        passed: int = 0,
        factor: int = 0,
    ) -> bytes:
        """Raises ``SpendDenied`` unless ``amount`` may be promised now. Any fault inside is a denial.

        Args:
            permit: id of the approval the caller shows, empty for none.
            spends: in how many parts it is promised, each a spend of its own; 0 for another try of one.
            passed: an amount this gate has let pass before for the same spend, approval included: a reservation.
            factor: load factor of its price, parts per million: what an approval is remembered with.

        Returns:
            Id of the permit that it uses, empty for none; to be journaled in one group with the promise.
        """
        with _Denying(self, account, amount):
            means = self._pass(account, amount, spends)
            threshold = means.policy.approval_above if means.policy else 0
            if threshold is None or amount <= threshold:
                return b""
            shown = self._approved(account, permit)
            if amount <= passed and not (shown and shown.permits(amount)):
                return b""  # it may have expired since
            return self._permit(account, amount, permit, threshold, Ppm(factor))

    def approved_factor(self, account: bytes, permit: bytes) -> Ppm | None:
        """The load factor of the price that the approval shown was given for; ``None`` without such an approval.

        It is good for the spend that :meth:`uses_permit`, and for no other. Raises ``SafetyUnknown``.
        """
        with _Denying(self, account, None):
            shown = self._approved(account, permit)
            return Ppm(shown.factor) if shown is not None and shown.factor else None

    def uses_permit(self, account: bytes, permit: bytes, amount: Trm) -> bool:
        """Whether a spend of ``amount`` needs an approval, and the one shown allows it. Raises ``SafetyUnknown``."""
        with _Denying(self, account, None):
            shown, policy = self._approved(account, permit), self.policy(account)
            if shown is None or policy is None or policy.approval_above is None:
                return False
            return policy.approval_above < amount and shown.permits(amount)

    def check_early(self, account: bytes) -> None:
        """All but the approval, for the smallest spend there is. Raises ``SpendDenied``."""
        with _Denying(self, account, Trm(1)):
            self._pass(account, Trm(1), 1)

    def foreseen(self, account: bytes, amount: Trm) -> SpendDenied | None:
        """What :meth:`check` would raise now. Leaves no trace: no request, no denial, no trip."""
        try:
            self._check_halted()
            self._check_counter(account)
            means = self.means(account)
            denied = refusal(self.kill, means, self._state().holds.books(account), amount, self._now())
            threshold = means.policy.approval_above if means.policy else 0
            if denied is not None or threshold is None or amount <= threshold:
                return denied
            return ApprovalRequired(
                f"{amount} TRM are more than the {threshold} this account may spend without an approval",
                approval_id=None,
                threshold=threshold,
                ceiling=amount,
            )
        except SpendDenied as error:
            return error
        except Exception:
            return SafetyUnknown("the gate could not decide, so it denies")

    def check_open(self, signer: bytes = NOBODY) -> None:
        """Whether anything at all may be promised now: the switches, without an account. Raises ``SpendDenied``.

        Args:
            signer: key of this node that is about to sign a numbered record; none for a promise without a number.
        """
        with _Denying(self, signer, None):
            self._check_switches()
            if signer:
                self._check_counter(signer)
            if self._state().succession.ended(self._node):
                raise AccountDisabled("this node's key was rotated or revoked: it promises nothing any more")

    def check_voucher(self, hold: HoldOpened, provider: bytes) -> None:
        """Whether a session may go on: its ceiling is held, so only switches, keys and incarnation count."""
        account = hold.account
        with _Denying(self, account, None):
            self._check_switches()
            self._check_counter(account)
            if account != self._local_user and hold.incarnation != self._state().holds.incarnation:
                raise CounterLost("this session belongs to an incarnation that has ended")
            if self.means(account).disabled:
                raise AccountDisabled("this account is disabled")
            if provider != self._node and provider in self._state().settings.convicted:
                raise AccountDisabled(
                    "a fraud is proven against this session's provider: nothing more is signed for it"
                )

    def may_open(self, account: bytes, more: int = 1) -> bool:
        """Whether ``more`` sessions fit into an acceptance. Raises ``SafetyUnknown``."""
        with _Denying(self, account, None):
            return len(self._state().holds.books(account).open) + more <= MAX_OPEN

    def headroom(self, account: bytes, permit: bytes = b"", passed: int = 0) -> Trm | None:
        """The most this account could promise now, switches aside; ``None`` without bound.

        Raises ``SafetyUnknown``.
        """
        with _Denying(self, account, None):
            shown = self._approved(account, permit)
            permitted = Trm(max(shown.ceiling if shown is not None else 0, passed))
            return headroom(self.means(account), self._state().holds.books(account), permitted, self._now())

    # --- how they are answered ---------------------------------------------------------------------------------

    def _pass(self, account: bytes, amount: Trm, spends: int) -> Means:
        """Every rule but the approval; a velocity overrun trips the breaker."""
        self._check_halted()
        self._check_counter(account)
        means, books = self.means(account), self._state().holds.books(account)
        denied = refusal(self.kill, means, books, amount, self._now(), spends)
        if isinstance(denied, VelocityExceeded):
            self._write(BreakerTripped(account, Trip.VELOCITY))
        if denied is not None:
            raise denied
        return means

    def _approved(self, account: bytes, permit: bytes) -> Approval | None:
        shown = self._state().settings.approvals.shown(permit, account, self._now())
        return shown if shown is not None and shown.verdict == Verdict.APPROVED else None

    def _permit(self, account: bytes, amount: Trm, permit: bytes, threshold: int, factor: Ppm) -> bytes:
        """The id of the permit shown. Raises ``ApprovalDenied``, or ``ApprovalRequired`` and queues the request."""
        approvals, now = self._state().settings.approvals, self._now()
        shown = approvals.shown(permit, account, now)
        if shown is not None and shown.permits(amount):
            return shown.id
        if shown is not None and shown.verdict == Verdict.DENIED:
            raise ApprovalDenied("an administrator denied this spend", approval_id=shown.id.hex())
        waiting = approvals.waiting(account, amount, now)
        if waiting is None and approvals.full(account, now):
            message = "this spend needs an approval, and too many requests are waiting already"
            raise ApprovalRequired(message, approval_id=None, threshold=threshold, ceiling=amount)
        request = waiting or self._request(account, amount, factor, now)
        raise ApprovalRequired(
            f"{amount} TRM are more than the {threshold} this account may spend without an approval; "
            "when it is approved, repeat the call with the header X-Tirami-Approval",
            approval_id=request.id.hex(),
            threshold=threshold,
            ceiling=amount,
            expires_ms=request.expires_ms,
        )

    def _request(self, account: bytes, amount: Trm, factor: Ppm, now: UnixMs) -> Approval:
        request = ApprovalRequested(self.random(32), account, amount, now + REQUEST_MS, factor)
        self._write(request)
        return Approval(request.id, account, amount, now, request.expires_ms)

    def _check_switches(self) -> None:
        self._check_halted()
        if (kill := self.kill) is not None and kill.active:
            raise frozen(kill)

    def _check_counter(self, account: bytes) -> None:
        if account == self._local_user:
            return
        lineage = self._state().lineage
        if lineage.taken(account):
            raise CounterLost("somebody else signs with this account's key: it needs another key")
        if lineage.lost:
            raise CounterLost(
                "a key of this node has signed elsewhere, and its last new incarnation is less than 7 days old: "
                "one key on two machines, a second restored backup, or a thief; the node's key can be rotated"
            )

    def _check_halted(self) -> None:
        if self.halted is not None:
            raise SafetyUnknown(f"spending is halted: {self.halted}")

    def note(self, account: bytes, amount: Trm | None, denied: SpendDenied) -> None:
        """Keep a denial for the operator. One that cannot be kept is still a denial."""
        with suppress(Exception):
            self.denials.note(Denial(self._now(), account, amount, denied.code, denied.message))


class _Denying:
    """Turns whatever goes wrong inside into a denial, and notes it."""

    __slots__ = ("_account", "_amount", "_gate")

    def __init__(self, gate: Gate, account: bytes, amount: Trm | None) -> None:
        self._gate, self._account, self._amount = gate, account, amount

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not isinstance(error, Exception):
            return
        denied = error if isinstance(error, SpendDenied) else SafetyUnknown("the gate could not decide, so it denies")
        self._gate.note(self._account, self._amount, denied)
        if denied is not error:
            raise denied from error
