"""The gate of one node: the pure rules of :mod:`tirami.ledger.safety` over its state as it stands now.

Whoever promises money asks here first, in the same step of the event loop in which it promises.
"""

from collections.abc import Callable

from tirami.core.errors import AccountDisabled, SafetyUnknown, SpendDenied
from tirami.core.keys import PublicKey
from tirami.core.units import Trm, UnixMs
from tirami.ledger.accounts import key_account
from tirami.ledger.entries import KillSet
from tirami.ledger.holds import MAX_OPEN, PayerBooks
from tirami.ledger.safety import OWNER_POLICY, Means, Policy, headroom, refusal
from tirami.ledger.state import State


class _DenyOnFault:
    """Whatever goes wrong inside the gate is a denial (SAF-06)."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, SpendDenied):
            raise SafetyUnknown("the gate could not decide, so it denies") from error


_deny_on_fault = _DenyOnFault()


class Gate:
    """May this account promise this amount now?

    Args:
        state: the ledger's state, asked anew each time.
        now: its clock.
        node, local_user: the keys of this node; the local user is bound by switches, not by budgets.
    """

    def __init__(
        self, state: Callable[[], State], now: Callable[[], UnixMs], node: PublicKey, local_user: PublicKey
    ) -> None:
        self._state = state
        self._now = now
        self._node = node
        self._local_user = local_user
        self.thrown: KillSet | None = None
        """A kill switch thrown in memory whose fact is not durable yet, or could not be written."""
        self.halted: str | None = None
        """Why this node stopped spending by itself (Σ ≠ 0), or ``None``."""

    @property
    def kill(self) -> KillSet | None:
        return self.thrown or self._state().settings.kill

    def policy(self, account: bytes) -> Policy | None:
        """Budgets of an account of this node; ``None`` for anybody else, whom the gate denies."""
        if account == self._local_user:
            return OWNER_POLICY
        settings = self._state().settings
        known = account == self._node or account in settings.accounts
        return settings.policies.get(account, Policy()) if known else None

    def line(self, account: bytes) -> Trm:
        """The part of a credit line the gate still honours: nothing after its due date (B4)."""
        state = self._state()
        due = state.line_due.get(account, UnixMs(0))
        return state.book.limit(account) if self._now() < due else Trm(0)

    def means(self, account: bytes) -> Means:
        if account == self._local_user:
            return Means(None, OWNER_POLICY, disabled=False)
        state = self._state()
        hosted, books = state.settings.accounts.get(account), state.holds.books(account)
        cover = state.book.income(key_account(account)) + self.line(account)
        available = Trm(cover - books.settled - books.held)
        return Means(available, self.policy(account), hosted is not None and hosted.disabled)

    def check(self, account: bytes, amount: Trm) -> None:
        """Raises ``SpendDenied`` unless ``amount`` may be promised now. Any fault inside is a denial."""
        with _deny_on_fault:
            self._check_halted()
            books = self._state().holds.books(account)
            denied = refusal(self.kill, self.means(account), books, amount, self._now())
        if denied is not None:
            raise denied

    def check_open(self) -> None:
        """Whether anything at all may be promised now: the switches, without an account. Raises ``SpendDenied``."""
        with _deny_on_fault:
            self._check_halted()
            denied = refusal(self.kill, Means(None, OWNER_POLICY, disabled=False), PayerBooks(), Trm(0), self._now())
        if denied is not None:
            raise denied

    def check_voucher(self, account: bytes) -> None:
        """Whether a session of this account may go on: its ceiling is held, so only switches and the account count."""
        self.check_open()
        with _deny_on_fault:
            disabled = self.means(account).disabled
        if disabled:
            raise AccountDisabled("this account is disabled")

    def may_open(self, account: bytes, more: int = 1) -> bool:
        """Whether ``more`` sessions fit into an acceptance. Raises ``SafetyUnknown``."""
        with _deny_on_fault:
            return len(self._state().holds.books(account).open) + more <= MAX_OPEN

    def headroom(self, account: bytes) -> Trm | None:
        """The most this account could promise now, kill switch aside; ``None`` without bound.

        Raises ``SafetyUnknown``.
        """
        with _deny_on_fault:
            return headroom(self.means(account), self._state().holds.books(account), self._now())

    def _check_halted(self) -> None:
        if self.halted is not None:
            raise SafetyUnknown(f"spending is halted: {self.halted}")
