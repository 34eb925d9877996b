"""Holds: what this node's payers have promised and not yet settled (PROTOCOL B7).

For its payer a session counts at its ceiling while open and at its captured amount ever after. A pure fold over hold
entries and over the payers' own numbered debits; the gate and the next acceptance are computed from it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from tirami.core.units import Trm, UnixMs
from tirami.ledger.breaker import Breaker
from tirami.ledger.entries import (
    Hold,
    HoldCaptured,
    HoldFailed,
    HoldOpened,
    HoldOwed,
    HoldReleased,
    HoldVouched,
)
from tirami.ledger.spends import SpendWindow
from tirami.ledger.velocity import Velocity
from tirami.proto import Acceptance, Open, Voucher, decode

MAX_OPEN = 32
"""Open sessions an acceptance may list (B2)."""


@dataclass(slots=True)
class OpenHold:
    """An open session with its newest voucher, if any."""

    opened: HoldOpened
    opened_ms: UnixMs
    spend: int
    """Its number in the sliding hour of its account."""
    vouched: HoldVouched | None = None
    failed: bool = False
    """An error of this session stands in the breaker's count."""
    left: bool = False
    """A start found it open: it was broken off."""

    @property
    def provider(self) -> bytes:
        """Key that serves it; empty for a reservation."""
        return decode(Acceptance, self.opened.acceptance).provider if self.opened.acceptance else b""

    def voucher(self, vouched: HoldVouched) -> Voucher:
        """What ``vouched`` says, with the acceptance it stands under."""
        return Voucher(
            trade_body=vouched.trade_body,
            payer_signature=vouched.payer_signature,
            acceptance_body=self.opened.acceptance,
            acceptance_signature=self.opened.acceptance_signature,
        )


@dataclass(slots=True)
class PayerBooks:
    """What a payer knows about its own numbered debits.

    Attributes:
        incarnation: current incarnation (B9); 0 for the first.
        last_number: the highest number used.
        settled: S, the sum of everything below the next number that is not open.
        open: ceilings of open sessions by number.
        spends: admitted spends of the last hour.
        lifetime: sum of all spends ever, open ones at their ceiling.
        velocity: when spends of the last minute were admitted.
        breaker: its circuit breaker.
    """

    incarnation: int = 0
    last_number: int = 0
    settled: Trm = Trm(0)
    open: dict[int, Trm] = field(default_factory=dict)
    spends: SpendWindow = field(default_factory=SpendWindow)
    lifetime: Trm = Trm(0)
    velocity: Velocity = field(default_factory=Velocity)
    breaker: Breaker = field(default_factory=Breaker)

    @property
    def held(self) -> Trm:
        """Σ ceilings of open sessions."""
        return Trm(sum(self.open.values()))

    def open_list(self) -> tuple[Open, ...]:
        return tuple(Open(number, ceiling) for number, ceiling in sorted(self.open.items()))

    def spent_in_hour(self, now_ms: int) -> Trm:
        """Σ of spends admitted in the hour before ``now_ms``, to the millisecond."""
        return self.spends.within(now_ms)

    def admit(self, at_ms: UnixMs, amount: Trm, *, again: bool = False) -> int:
        """Count a spend, or another try of one; returns its number, for :meth:`correct`."""
        if not again:
            self.velocity.record(at_ms)
        self.lifetime = Trm(self.lifetime + amount)
        return self.spends.add(at_ms, amount)

    def correct(self, spend: int, ceiling: Trm, amount: Trm) -> None:
        """The spend turned out smaller than its ceiling."""
        self.spends.correct(spend, amount)
        self.lifetime = Trm(self.lifetime - ceiling + amount)


class Holds:
    """All open holds and every payer's books."""

    def __init__(self) -> None:
        self.open: dict[bytes, OpenHold] = {}
        self._books: dict[bytes, PayerBooks] = {}
        self._number_floor = 0
        self._incarnation = 0

    def books(self, account: bytes) -> PayerBooks:
        """Those of ``account``, to read; empty ones, kept nowhere, for a key that has promised nothing yet."""
        return self._books.get(account) or PayerBooks()

    def kept(self, account: bytes) -> PayerBooks:
        """Those of ``account``, for the fold to change."""
        return self._books.setdefault(account, PayerBooks())

    def all_books(self) -> Collection[PayerBooks]:
        return self._books.values()

    def next_number(self, account: bytes) -> int:
        return max(self.books(account).last_number + 1, self._number_floor)

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def held(self, account: bytes) -> Trm:
        books = self._books.get(account)
        return books.held if books else Trm(0)

    def start(self, number_floor: int, incarnation: int) -> None:
        """The node started: no payer reuses a number from before (B9)."""
        self._number_floor = max(self._number_floor, number_floor)
        self._incarnation = incarnation
        for session in self.open.values():
            session.left = True

    def apply(self, hold: Hold, at_ms: UnixMs) -> None:
        match hold:
            case HoldOpened():
                self._opened(hold, at_ms)
            case HoldVouched():
                self.open[hold.id].vouched = hold
            case HoldCaptured():
                ended = self._ended(hold.id, Trm(hold.amount))
                if not ended.failed:
                    self.kept(ended.opened.account).breaker.paid(hold.id)
            case HoldOwed():
                ended = self._ended(hold.id, Trm(hold.amount))
                if not ended.failed:
                    self.kept(ended.opened.account).breaker.paid(hold.id)
            case HoldReleased():
                ended = self._ended(hold.id, Trm(0))
                self.kept(ended.opened.account).breaker.released(hold.id)
            case HoldFailed():
                self._failed(self.open[hold.id], at_ms)

    def debited(self, account: bytes, number: int, amount: Trm, at_ms: UnixMs) -> None:
        """A numbered debit without a session (a transfer): a spend like any other."""
        books = self.kept(account)
        books.last_number = max(books.last_number, number)
        books.settled = Trm(books.settled + amount)
        spend_id = number.to_bytes(16)
        books.breaker.admitted(spend_id, at_ms)
        books.admit(at_ms, amount)
        books.breaker.paid(spend_id)

    def _opened(self, hold: HoldOpened, at_ms: UnixMs) -> None:
        books = self.kept(hold.account)
        books.last_number = max(books.last_number, hold.number)
        books.open[hold.number] = Trm(hold.ceiling)
        books.breaker.admitted(hold.id, at_ms)
        spend = books.admit(at_ms, Trm(hold.ceiling), again=hold.again)
        self.open[hold.id] = OpenHold(hold, at_ms, spend)

    def _failed(self, session: OpenHold, at_ms: UnixMs) -> None:
        """Once a session: what fails again is the same error."""
        if not session.failed:
            session.failed = True
            self.kept(session.opened.account).breaker.failed(session.opened.id, session.opened_ms, at_ms)

    def _ended(self, hold_id: bytes, amount: Trm) -> OpenHold:
        session = self.open.pop(hold_id)
        opened = session.opened
        books = self.kept(opened.account)
        del books.open[opened.number]
        books.settled = Trm(books.settled + amount)
        books.correct(session.spend, Trm(opened.ceiling), amount)
        return session
