"""A consumer that cheats: other vouchers than it owes, or another acceptance than its books allow."""

from typing import ClassVar, Final

import structlog

from tirami.core.keys import SigningKey, sha256
from tirami.ledger.gate import Gate
from tirami.ledger.restarts import Restarts
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer
from tirami.net.transport import Stream
from tirami.proto import Accept, Acceptance, Message, Payment, SignedBody, Trade, decode
from tirami.testing.rogue.lies import HONEST, Turns, bent, resigned

_log = structlog.get_logger()
VOUCHERS: Final = frozenset({"unvouched", "replay", "reorder", "foreign", "forged", "bent"})
ACCEPTANCES: Final[dict[str, dict[str, object]]] = {
    "ceiling": {"ceiling": 1_000_000},
    "totals": {"settled": 0, "open": ()},
    "hidden": {"settled": 0, "open": (), "number": 0},
}
CHEATS: Final = frozenset({HONEST, "means", *VOUCHERS, *ACCEPTANCES})


def lie(turns: Turns, key: SigningKey) -> None:
    """From now on, in every session this process buys."""
    _Lying.turns, _Lying.key = turns, key
    consumer.FrameWriter = _Lying  # type: ignore[attr-defined]


def unbound() -> None:
    """Let everything pass this process's gate, and hear nothing of what others show of its signatures."""
    Gate.check = lambda *_, **__: ()  # type: ignore[method-assign]
    Gate.check_voucher = lambda *_: None  # type: ignore[method-assign]
    Restarts.heard = lambda *_: None  # type: ignore[method-assign]


class _Lying(FrameWriter):
    """Says something else than the node would: one cheat a session."""

    turns: ClassVar[Turns]
    key: ClassVar[SigningKey]
    last: ClassVar[Payment | None] = None
    """The last voucher of an honest session."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.cheat = self.turns.next()
        self._held: Payment | None = None
        self._paid = 0
        self._acceptance: SignedBody | None = None
        """The one that was sent, where it is not the node's own."""

    async def write(self, message: Message) -> None:
        said = self._said(message)
        if said != [message]:
            _log.warning("cheating", cheat=self.cheat, voucher=self._paid)
        for one in said:
            await super().write(one)

    def _said(self, message: Message) -> list[Message]:
        match message:
            case Accept():
                return [self._accepted(message)]
            case Payment():
                self._paid += 1
                return self._vouched(message)
            case _:
                return [message]

    def _accepted(self, accept: Accept) -> Accept:
        if self.cheat not in ACCEPTANCES:
            return accept
        self._acceptance = resigned(Acceptance, accept.acceptance.body, self.key, **ACCEPTANCES[self.cheat])
        return Accept(self._acceptance)

    def _vouched(self, payment: Payment) -> list[Message]:
        trade = payment.trade
        match self.cheat:
            case "unvouched":
                return []
            case "replay":
                return [payment, payment]
            case "reorder":
                held, self._held = self._held, payment
                return [] if held is None else [payment, held]
            case "foreign":
                assert self.last is not None, "an honest session comes before"
                return [self.last]
            case "forged":
                return [Payment(resigned(Trade, trade.body, SigningKey.generate()))]
            case "bent":
                return [Payment(SignedBody(trade.body, bent(trade.signature)))]
            case _ if self._acceptance is not None:
                return [Payment(self._under(self._acceptance, trade))]
            case _:
                _Lying.last = payment
                return [payment]

    def _under(self, acceptance: SignedBody, trade: SignedBody) -> SignedBody:
        """The voucher as it goes with the acceptance that was sent."""
        number = decode(Acceptance, acceptance.body).number
        named = sha256(Acceptance.TAG, acceptance.body)
        return resigned(Trade, trade.body, self.key, session=number, acceptance_hash=named)
