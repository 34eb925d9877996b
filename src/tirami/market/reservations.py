"""Reservations: funds and a price kept for one call to come, for a minute.

A reservation is a journaled hold like any other, behind the same gate. The call that names it gives the hold back and
opens its own in the same step of the event loop, so nobody else can spend those funds in between. Like every ticket it
lives in memory, is good once, and after a restart its hold is released.
"""

from dataclasses import dataclass

from tirami.core.errors import Conflict, QueueFull
from tirami.core.keys import Digest
from tirami.core.units import Ppm, Trm, UnixMs
from tirami.ledger import HoldOpened, HoldReleased, Ledger, Payer, Price

LIFETIME_MS = 60_000
_NOT_VALID = "this ticket is not valid: used before, expired, or issued for something else"


@dataclass(frozen=True, slots=True)
class Reservation:
    """``hold_id`` is what the payer names; ``price`` is kept although the market moves."""

    hold_id: bytes
    payer: Payer
    model_digest: Digest
    price: Price
    held: Trm
    expires_ms: UnixMs


class Reservations:
    """Those of one node that have not been used yet."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[bytes, Reservation] = {}

    @property
    def ids(self) -> set[bytes]:
        """Holds that are kept for a call to come; what expired meanwhile is forgotten."""
        now, holds = self._ledger.now(), self._ledger.state.holds.open
        self._open = {key: kept for key, kept in self._open.items() if key in holds and kept.expires_ms > now}
        return set(self._open)

    async def reserve(
        self,
        hold_id: bytes,
        payer: Payer,
        model_digest: Digest,
        price: Price,
        amount: Trm,
        request_id: str,
        factor: Ppm,
    ) -> Reservation:
        """Hold ``amount``; durable when it returns. Raises ``SpendDenied``, ``QueueFull``, ``StorageUnavailable``.

        ``factor`` is the load factor of ``price``.
        """
        ledger = self._ledger
        if not ledger.gate.may_open(payer.key):
            raise QueueFull("32 sessions of this payer are open", retry_after=1)
        kept = Reservation(hold_id, payer, model_digest, price, amount, UnixMs(ledger.now() + LIFETIME_MS))
        opened = ledger.payables.open_holds(
            payer.key, amount, [lambda: self._hold(kept, request_id)], payer.permit, factor=factor
        )
        self._open[hold_id] = kept
        await opened
        return kept

    def check(self, hold_id: bytes, payer: Payer) -> Reservation:
        """Raises ``Conflict`` for one used before, expired, unknown or of another payer."""
        kept = self._open.get(hold_id)
        if (
            kept is None
            or kept.payer.key != payer.key
            or hold_id not in self._ledger.state.holds.open
            or kept.expires_ms <= self._ledger.now()
        ):
            raise Conflict(_NOT_VALID)
        return kept

    def find(self, hold_id: bytes, payer: Payer, model_digest: Digest) -> Reservation:
        """Raises ``Conflict`` where :meth:`check` does, and for another model."""
        kept = self.check(hold_id, payer)
        if kept.model_digest != model_digest:
            raise Conflict(_NOT_VALID)
        return kept

    def use(self, hold_id: bytes, payer: Payer, model_digest: Digest) -> Reservation:
        """Take it and give its hold back; whoever calls opens the real hold before anything else can happen."""
        kept = self.find(hold_id, payer, model_digest)
        del self._open[hold_id]
        self._ledger.append([HoldReleased(hold_id, "used")])  # durable before the hold that follows it, or lost with it
        return kept

    def _hold(self, kept: Reservation, request_id: str) -> HoldOpened:
        holds = self._ledger.state.holds
        return HoldOpened(
            id=kept.hold_id,
            account=kept.payer.key,
            scope=kept.payer.scope,
            incarnation=holds.incarnation,
            number=holds.next_number(kept.payer.key),
            ceiling=kept.held,
            purpose="reservation",
            expires_ms=kept.expires_ms,
            request_id=request_id,
            acceptance=b"",
            acceptance_signature=b"",
            quote=b"",
            quote_signature=b"",
        )
