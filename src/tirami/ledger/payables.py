"""What this node's payers owe: holds opened behind the gate, vouchers signed one by one, and what closes them.

A hold promises a ceiling, a voucher a running total that never falls; closing one books its trade here, or leaves what
was vouched for owed until a provider elsewhere has signed (PROTOCOL B7, B13). The other side is
:mod:`~tirami.ledger.receivables`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from tirami.core.errors import InvalidProof, SafetyUnknown, StorageUnavailable, TiramiError
from tirami.core.keys import Signature, Signer
from tirami.core.units import Trm
from tirami.ledger.admission import Admitted, admit
from tirami.ledger.countersigner import Countersigner, trade_of
from tirami.ledger.entries import HoldCaptured, HoldFailed, HoldOpened, HoldOwed, HoldReleased, HoldVouched
from tirami.ledger.holds import OpenHold
from tirami.proto import Signed

if TYPE_CHECKING:
    from tirami.ledger.ledger import Ledger

_log = structlog.get_logger()
SignTotal = Callable[[], tuple[Trm, Signed]]
"""The payer signs the trade as it stands: its amount and the half-signed body."""
HOLD_LIFETIME_MS = 600_000
"""What a hold says of its own end, ten minutes after its last token; one that is owned ends with its owner."""


class Payables:
    """The payer's side of one ledger, for all its accounts."""

    def __init__(self, ledger: "Ledger", node: Signer) -> None:
        self._ledger = ledger
        self._node = node
        self._countersigner = Countersigner(node, ledger.network)

    def close(self) -> None:
        """No session ends after this."""
        self._countersigner.close()

    def open_holds(
        self,
        account: bytes,
        total: Trm,
        signs: Sequence[Callable[[], HoldOpened]],
        permit: bytes = b"",
        passed: int = 0,
        factor: int = 0,
        again: bool = False,
    ) -> Awaitable[None]:
        """Gate, signatures and holds in one step: each of ``signs`` is called when the gate has let ``total`` pass.

        A ``permit`` that is needed is used by all of them; none is for an amount that ``passed`` with a reservation.
        ``factor`` is that of :meth:`Gate.check`. ``again``: the first is another try of a spend that was counted.
        The awaitable ends when all are durable. Raises ``SpendDenied``, ``StorageUnavailable``.
        """
        used = self._ledger.gate.check(account, total, permit, len(signs) - again, passed, factor)
        written: Awaitable[None] | None = None
        for sign in signs:  # each acceptance counts the holds before it, so they are applied one by one
            hold = sign()
            written = self._ledger.append([replace(hold, permit=used, again=again)])
            again = False
        assert written is not None
        return written  # groups become durable in order

    def vouch(self, hold_id: bytes, sign: SignTotal) -> Awaitable[None]:
        """Journal a running total; the payer signs the trade at that point in ``sign``, behind the gate (B13).

        Raises ``SpendDenied``, ``StorageUnavailable``, the latter also for a hold that was lost.
        """
        return self._ledger.append([self._signed_total(hold_id, sign)])

    def _signed_total(self, hold_id: bytes, sign: SignTotal) -> HoldVouched:
        hold = self._session(hold_id)
        self._ledger.gate.check_voucher(hold.opened, hold.provider)
        with self._counting_errors(hold_id):
            amount, half = sign()
        if not (hold.vouched.amount if hold.vouched else 0) <= amount <= hold.opened.ceiling:
            raise SafetyUnknown("a voucher never falls and never exceeds its ceiling")
        return HoldVouched(hold_id, amount, half.body, half.signature, self._ledger.now() + HOLD_LIFETIME_MS)

    def check_voucher(self, hold_id: bytes) -> None:
        """Whether another voucher of this session may be signed now. Raises ``SpendDenied``, ``StorageUnavailable``."""
        hold = self._session(hold_id)
        self._ledger.gate.check_voucher(hold.opened, hold.provider)

    async def end_session(self, hold_id: bytes, reason: str, sign: SignTotal | None = None) -> Admitted | None:
        """Close a hold: countersign its last voucher and book the trade, or release it when it has none.

        With ``sign`` the payer first signs for more than the last voucher covers. One group of the journal, durable on
        return: when it raises, nothing was signed for. Never gated without ``sign``: what was vouched for is owed.

        Raises ``SpendDenied`` (with ``sign`` only), ``StorageUnavailable``.
        """
        hold = self._session(hold_id)
        if hold.provider not in (b"", self._node.public_key):
            await self._owe(hold, reason)
            return None
        before = hold.vouched
        last = before if sign is None else self._signed_total(hold_id, sign)
        if last is None:
            await self._ledger.append([HoldReleased(hold_id, reason)])
            return None
        with self._counting_errors(hold_id):
            admitted = await self._countersigner.countersign(hold.voucher(last))
        if self._session(hold_id).vouched != before:
            raise StorageUnavailable("the journal lost this session's last voucher", retry_after=5)
        if last is not before:  # a switch thrown while it was countersigned: nothing is promised after it (B13)
            self._ledger.gate.check_voucher(hold.opened, hold.provider)
        captured = HoldCaptured(hold_id, admitted.record_id, admitted.demand.debit.amount)
        vouched = () if last is before else (last,)
        await self._ledger.append([*vouched, admitted.envelope, captured], admitted)
        return admitted

    async def _owe(self, hold: OpenHold, reason: str) -> None:
        """A session at another node ends at its last voucher: what has no voucher is free, the rest is owed (B7)."""
        hold_id, vouched = hold.opened.id, hold.vouched
        await self._ledger.append([HoldOwed(hold_id, vouched.amount) if vouched else HoldReleased(hold_id, reason)])

    async def capture(self, hold_id: bytes, countersignature: Signature) -> Admitted:
        """Book the trade of a session at another node, which has signed the last voucher. Durable on return.

        Raises ``InvalidSignature``, ``StorageUnavailable``.
        """
        hold = self._session(hold_id)
        if hold.vouched is None:
            raise InvalidProof("nothing was vouched for in this session", param="trade")
        envelope = trade_of(hold.voucher(hold.vouched), countersignature)
        admitted = admit(envelope, self._ledger.network, own_acceptance=True)
        captured = HoldCaptured(hold_id, admitted.record_id, admitted.demand.debit.amount)
        await self._ledger.append([envelope, captured], admitted)
        return admitted

    def fail(self, hold_id: bytes) -> None:
        """The engine or the settlement of this session failed: one error for its account's breaker."""
        hold = self._ledger.state.holds.open.get(hold_id)
        if hold is not None and not hold.failed:
            with suppress(StorageUnavailable):  # nothing is sold then anyway
                self._ledger.append([HoldFailed(hold_id)])

    @contextmanager
    def _counting_errors(self, hold_id: bytes) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.fail(hold_id)
            raise

    async def expire_holds(self, live: Collection[bytes]) -> int:
        """End every hold that is nobody's; returns how many.

        Args:
            live: ids of holds that a request of this process, or a reservation that has not expired, still owns.
        """
        ended = 0
        for hold_id in list(self._ledger.state.holds.open):
            if hold_id in live or hold_id not in self._ledger.state.holds.open:
                continue
            try:
                await self.end_session(hold_id, "expired")
            except StorageUnavailable:
                raise
            except TiramiError as error:
                _log.warning("hold_not_ended", hold=hold_id.hex(), code=error.code, reason=error.message)
            else:
                ended += 1
        return ended

    def _session(self, hold_id: bytes) -> OpenHold:
        hold = self._ledger.state.holds.open.get(hold_id)
        if hold is None:
            raise StorageUnavailable(
                "this session's hold was lost when the journal could not be written", retry_after=5
            )
        return hold
