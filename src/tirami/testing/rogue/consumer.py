"""A consumer that cheats: other vouchers than it owes, or another acceptance than its books allow."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final

import structlog

from tirami.core.keys import SigningKey, sha256
from tirami.ledger.gate import Gate
from tirami.ledger.restarts import Restarts
from tirami.market import Provider
from tirami.net import gossip, reconciler
from tirami.net.frames import FrameWriter
from tirami.net.session import consumer
from tirami.net.shared import in_messages
from tirami.net.transport import Stream
from tirami.net.watch import Watch
from tirami.node.mesh.shop import Shop
from tirami.proto import Accept, Acceptance, Envelope, Message, Payment, Records, SignedBody, Trade, decode
from tirami.testing.rogue.lies import HONEST, Turns, bent, flipped, resigned

_log = structlog.get_logger()
VOUCHERS: Final = frozenset({"unvouched", "undercount", "replay", "reorder", "foreign", "forged", "bent"})
ACCEPTANCES: Final[dict[str, dict[str, object]]] = {
    "ceiling": {"ceiling": 1_000_000},
    "totals": {"settled": 0, "open": ()},
    "hidden": {"settled": 0, "open": (), "number": 0},
}
SIGNATURES: Final = frozenset({"accept-forged", "accept-flipped", "accept-bent"})
CHEATS: Final = frozenset({HONEST, "means", "apart", *VOUCHERS, *ACCEPTANCES, *SIGNATURES})
Providers = Callable[[Shop, str | None, int], Iterator[Provider]]


def lie(turns: Turns, key: SigningKey) -> None:
    """From now on, in every session this process buys."""
    _Lying.turns, _Lying.key = turns, key
    consumer.FrameWriter = _Lying  # type: ignore[attr-defined]


def unbound() -> None:
    """Let everything pass this process's gate, hear nothing of what others show of its signatures, and tell no trade.

    Each answer is bought of whom it has paid least so far.
    """
    Gate.check = lambda *_, **__: b""  # type: ignore[method-assign]
    Gate.check_voucher = lambda *_: None  # type: ignore[method-assign]
    Restarts.heard = lambda *_: None  # type: ignore[method-assign]
    Watch.see_all = lambda *_: False  # type: ignore[method-assign]
    gossip.in_messages = reconciler.in_messages = _without_trades  # type: ignore[attr-defined]
    Shop.providers = _least_paid(Shop.providers)  # type: ignore[method-assign, assignment]


def _without_trades(envelopes: Iterable[Envelope]) -> Iterator[Records]:
    return in_messages(one for one in envelopes if one.kind != "trade")


def _least_paid(ranked: Providers) -> Providers:
    asked: Counter[bytes] = Counter()

    def providers(shop: Shop, model: str | None, tokens: int) -> Iterator[Provider]:
        found = {one.peer.signal.node: one for one in ranked(shop, model, tokens)}
        if found:
            least = min(found, key=lambda key: (_Lying.paid[key], asked[key]))
            asked[least] += 1
            yield found[least]

    return providers


class _Lying(FrameWriter):
    """Says something else than the node would: one cheat a session."""

    turns: ClassVar[Turns]
    key: ClassVar[SigningKey]
    last: ClassVar[Payment | None] = None
    """The last voucher of an honest session."""
    paid: ClassVar[Counter[bytes]] = Counter()
    """TRM that was signed for, by provider."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.cheat = self.turns.next()
        self._held: Payment | None = None
        self._vouchers = 0
        self._first: Trade | None = None
        """The first voucher of this session."""
        self._signed = 0
        """TRM of this session."""
        self._acceptance: SignedBody | None = None
        """The one that was sent, where it is not the node's own."""

    async def write(self, message: Message) -> None:
        said = self._said(message)
        if said != [message]:
            _log.warning("cheating", cheat=self.cheat, voucher=self._vouchers)
        for one in said:
            await super().write(one)

    def _said(self, message: Message) -> list[Message]:
        match message:
            case Accept():
                return [self._accepted(message)]
            case Payment():
                self._vouchers += 1
                self._count(decode(Trade, message.trade.body))
                return self._vouched(message)
            case _:
                return [message]

    def _count(self, trade: Trade) -> None:
        self.paid[trade.provider] += trade.amount - self._signed
        self._signed = trade.amount

    def _accepted(self, accept: Accept) -> Accept:
        own = accept.acceptance
        match self.cheat:
            case "accept-forged":
                return Accept(resigned(Acceptance, own.body, SigningKey.generate()))
            case "accept-flipped":
                return Accept(SignedBody(own.body, flipped(own.signature)))
            case "accept-bent":
                return Accept(SignedBody(own.body, bent(own.signature)))
        told = ACCEPTANCES.get(self.cheat)
        if self.cheat == "apart":
            told = {"settled": self.paid[decode(Acceptance, own.body).provider], "open": ()}
        if told is None:
            return accept
        self._acceptance = resigned(Acceptance, own.body, self.key, **told)
        return Accept(self._acceptance)

    def _vouched(self, payment: Payment) -> list[Message]:
        trade = payment.trade
        match self.cheat:
            case "unvouched":
                return []
            case "undercount":
                told = self._first = self._first or decode(Trade, trade.body)
                count = {"completion_tokens": told.completion_tokens, "amount": told.amount, "flop": told.flop}
                return [Payment(resigned(Trade, trade.body, self.key, **count))]
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
