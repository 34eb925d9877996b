"""Ledger-as-Brain: begin, execute, settle (L1-09). Every paid request on every path passes through here.

``begin_inference`` decides who serves at what price, passes the gate and opens the hold in one step of the event
loop; ``execute`` streams and vouches; settling turns the last voucher into a trade. A ticket is used once.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from tirami.core.errors import (
    Conflict,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    QueueFull,
    SpendDenied,
    StorageUnavailable,
)
from tirami.core.keys import PublicKey, Signer
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import MicroTrm, Ppm, Trm
from tirami.infer import Engine, FinishReason, Generation, ModelCard, Prompt, Sampling
from tirami.ledger import Heads, HoldOpened, Ledger, Payer, Price
from tirami.market.counterparts import Offered
from tirami.market.load import Load
from tirami.market.meter import Meter, Unmetered
from tirami.market.quoting import INFERENCE, Parties, accept, hold, quote
from tirami.market.reservations import Reservation, Reservations
from tirami.market.session import MeteredSession
from tirami.market.tickets import Ticket, TicketOffice
from tirami.proto import Quote, SignedBody, amount_due, prompt_hash, session_secret, signed

DEFAULT_MAX_TOKENS = 1024
STOPPING_S = 10
"""Seconds after which a node that is stopping may be back."""
LEAVING_S = 5
"""Seconds a node that is stopping waits for whoever consumes an answer."""

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Order:
    """What a payer wants.

    Attributes:
        max_tokens: ``None`` asks for the default, which shrinks to what context, policy and funds allow; a number is
            kept or refused.
        prompt_billed: ``False`` for a further choice of a prompt that is billed with another order.
        vectors: embeddings asked for instead of an answer: then only the prompt is billed, and what is counted as
            completion tokens is their number.
    """

    payer: Payer
    engine: Engine | None
    prompt: Prompt
    sampling: Sampling
    max_tokens: int | None
    request_id: str
    prompt_billed: bool = True
    vectors: Sequence[Prompt] = ()
    dimensions: int | None = None
    """Of the vectors; ``None`` for the model's own."""
    ticket: bytes | None = None
    """Id of a reservation to use: its price and its funds."""
    offered: Offered | None = None
    """Another node's quote: then it serves, at its price, and ``engine`` is not asked."""
    purpose: str = INFERENCE
    """As the hold will state it."""
    again: bool = False
    """Whether an earlier try of the same request was admitted for this payer, and ended without a charge."""

    @property
    def card(self) -> ModelCard:
        """The model that answers."""
        if self.offered is not None:
            return self.offered.card
        assert self.engine is not None, "who serves is known before anything is ordered"
        return self.engine.card


@dataclass(frozen=True, slots=True)
class Estimate:
    """What orders would cost together now: at least, at most, and why the gate would refuse the most; TRM.

    ``price`` and ``max_tokens`` are the first one's; a further choice is given no fewer.
    """

    price: Price
    max_tokens: int
    least: Trm
    ceiling: Trm
    denied: SpendDenied | None


@dataclass(frozen=True, slots=True)
class _Offer:
    """An order with everything decided."""

    order: Order
    price: Price
    ceiling: Trm
    reserved: int
    """TRM that passed the gate with a reservation before."""
    permit: bytes
    """Id of the approval to use, should one be needed: the reservation's where that is enough, else the one shown."""

    @property
    def at_least(self) -> Trm:
        """For an answer of one token."""
        return amount_due(self.price.prompt, self.price.completion, self.order.prompt.count, 1)

    @property
    def shaping(self) -> bytes:
        """What the quote's prompt hash covers beside the prompt."""
        if self.order.vectors:
            asked = {"vectors": [prompt.count for prompt in self.order.vectors]}
            width = self.order.dimensions
            return msgspec.json.encode(asked if width is None else {**asked, "dimensions": width})
        return self.order.sampling.shaping.canonical()


def _accepted(order: Order, offered: Quote) -> _Offer:
    """Another node's quote is taken as it stands: it was checked against what was asked."""
    price = Price(MicroTrm(offered.price_in), MicroTrm(offered.price_out))
    ceiling = amount_due(offered.price_in, offered.price_out, offered.prompt_tokens, offered.max_tokens)
    sampling = replace(order.sampling, max_tokens=offered.max_tokens)
    return _Offer(replace(order, sampling=sampling), price, ceiling, 0, order.payer.permit)


class InferenceMarket:
    """Begins and settles paid inference on this node's engines."""

    def __init__(
        self, ledger: Ledger, heads: Heads, node: Signer, load: Load, random: Random, meter: Meter | None = None
    ) -> None:
        self._meter = meter or Unmetered()
        self._ledger = ledger
        self._heads = heads
        self._node = node
        self._random = random
        self._tickets = TicketOffice()
        self._sessions: set[MeteredSession] = set()
        self._stopping = False
        self.load = load
        self.reservations = Reservations(ledger)
        ledger.on_kill(lambda: self._interrupt(FinishReason.KILLED))
        ledger.on_barred(self._end_purchases)

    def check(self, payer: Payer, ticket: bytes | None = None) -> None:
        """The gate asked early, for the smallest spend there is: spares a denied request the queue and the engine.

        A reservation has passed it; of ``ticket`` it is asked whether it is one. Raises ``SpendDenied``, ``Conflict``.
        """
        if ticket is None:
            self._ledger.gate.check_early(payer.key)
        else:
            self.reservations.check(ticket, payer)

    def estimate(self, orders: Sequence[Order]) -> Estimate:
        """What :meth:`begin` would do with these orders now, none of which uses a reservation; signs and holds nothing.

        Raises ``ContextLengthExceeded``.
        """
        offers = self._offers(orders)
        least = Trm(sum(offer.at_least for offer in offers))
        ceiling = Trm(sum(offer.ceiling for offer in offers))
        denied = self._ledger.gate.foreseen(orders[0].payer.key, ceiling)
        return Estimate(offers[0].price, offers[0].order.sampling.max_tokens, least, ceiling, denied)

    async def reserve(
        self, payer: Payer, card: ModelCard, prompt_tokens: int, max_tokens: int, request_id: str
    ) -> Reservation:
        """Keep price and funds of so many tokens for a call to come; priced as a call is.

        Raises ``SpendDenied``, ``QueueFull``, ``StorageUnavailable``.
        """
        self._check_running()

        def cost(price: Price) -> Trm:
            return amount_due(price.prompt, price.completion, prompt_tokens, max_tokens)

        def at(factor: Ppm) -> Price:
            return self.load.price(card.active_parameters, factor)

        factor = self._factor(payer, lambda factor: cost(at(factor)))
        price = at(factor)
        return await self.reservations.reserve(
            self._random(16), payer, card.digest, price, cost(price), request_id, factor
        )

    async def begin_inference(self, order: Order) -> Ticket:
        """:meth:`begin` for one order."""
        return (await self.begin([order]))[0]

    async def begin(self, orders: Sequence[Order]) -> list[Ticket]:
        """Price, gate, hold: one decision over all ``orders`` of one payer, all or none. Durable when it returns.

        Raises:
            SpendDenied: the gate said no; nothing is held.
            ContextLengthExceeded: prompt and answer do not fit the model.
            QueueFull: the payer would have more than 32 open sessions.
            Conflict: the reservation it names is not good; a good one is used up, whatever becomes of the call.
        """
        key = orders[0].payer.key
        self._check_running()
        offers = self._offers(orders)
        if not self._ledger.gate.may_open(key, len(orders)):
            raise QueueFull("32 sessions of this payer are open", retry_after=1)
        total = Trm(sum(offer.ceiling for offer in offers))
        tickets: list[Ticket] = []

        def issue(offer: _Offer) -> HoldOpened:
            hold, ticket = self._sign(offer)
            self._tickets.issue(ticket)
            tickets.append(ticket)
            return hold

        try:
            signs = [partial(issue, offer) for offer in offers]
            factor = self.load.factor if orders[0].offered is None else 0
            await self._ledger.payables.open_holds(
                key, total, signs, offers[0].permit, offers[0].reserved, factor, orders[0].again
            )
        except StorageUnavailable:
            for ticket in tickets:
                self._tickets.forget(ticket.hold_id)
            raise
        except BaseException:
            for ticket in tickets:
                await uninterrupted(self.cancel(ticket))
            raise
        return tickets

    def _offers(self, orders: Sequence[Order]) -> "list[_Offer]":
        first = orders[0]

        def at(factor: Ppm) -> list[_Offer]:
            return [self._offer(order, len(orders), factor) for order in orders]

        if first.offered is not None or first.ticket is not None:
            return at(self.load.factor)
        return at(self._factor(first.payer, lambda factor: Trm(sum(offer.ceiling for offer in at(factor)))))

    def _factor(self, payer: Payer, total: Callable[[Ppm], Trm]) -> Ppm:
        """Of today's price; for the spend that uses an approval up, of the one it was approved at where that is lower.

        ``total`` is the most the spend costs at a factor.
        """
        now, gate = self.load.factor, self._ledger.gate
        approved = gate.approved_factor(payer.key, payer.permit)
        if approved is None or approved >= now or not gate.uses_permit(payer.key, payer.permit, total(approved)):
            return now
        return approved

    def _offer(self, order: Order, among: int, factor: Ppm) -> "_Offer":
        if order.offered is not None:
            return _accepted(order, order.offered.quote)
        kept = self._reservation(order)
        price = kept.price if kept else self.load.price(order.card.active_parameters, factor)
        reserved = kept.held if kept else 0
        if order.vectors:
            price = Price(price.prompt, MicroTrm(0))
        elif not order.prompt_billed:
            price = Price(MicroTrm(0), price.completion)
        sampling = replace(order.sampling, max_tokens=self._most_tokens(order, price, among, reserved))
        ceiling = amount_due(price.prompt, price.completion, order.prompt.count, sampling.max_tokens)
        permit = (kept.payer if kept and ceiling <= reserved else order.payer).permit
        return _Offer(replace(order, sampling=sampling), price, ceiling, reserved, permit)

    def execute(self, ticket: Ticket, payer: PublicKey, *, streamed: bool) -> MeteredSession:
        """Use the ticket up.

        Raises ``Conflict`` for a second use, a foreign payer or an expired hold, ``EngineFailed`` while the node stops.
        """
        self._tickets.take(ticket, payer)
        self._check_running()
        if ticket.hold_id not in self._ledger.state.holds.open:
            raise Conflict("this ticket has expired")
        return MeteredSession(self._ledger, ticket, self._sessions, self._meter, streamed=streamed)

    @property
    def live(self) -> set[bytes]:
        """Ids of holds that a ticket or a running session owns."""
        return self._tickets.ids | self.reservations.ids | {session.hold_id for session in self._sessions}

    @property
    def running(self) -> int:
        """Answers that have not ended."""
        return len(self._sessions)

    @property
    def tokens_running(self) -> int:
        """Tokens made so far by the answers that have not ended."""
        return sum(session.made for session in self._sessions)

    async def stop(self) -> None:
        """Begin nothing more, end what runs, and wait until each session has settled what it delivered.

        Unused tickets are void; a session nobody comes back for is settled at its last voucher after ``LEAVING_S``.
        """
        self._stopping = True
        self._interrupt(FinishReason.STOPPED)
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_S):
                for session in list(self._sessions):
                    await session.ended.wait()
        with suppress(StorageUnavailable):  # the next start ends what is left
            await self._ledger.payables.expire_holds(())

    def _check_running(self) -> None:
        if self._stopping:
            raise EngineFailed("this node is stopping", retry_after=STOPPING_S)

    def _interrupt(self, reason: FinishReason) -> None:
        for session in list(self._sessions):
            session.interrupt(reason)

    def _end_purchases(self, key: bytes) -> None:
        """Nothing more is bought of a provider that is convicted. One whose key has ended is paid for what it began."""
        if key not in self._ledger.state.settings.convicted:
            return
        for session in list(self._sessions):
            if session.bought_of == key:
                session.interrupt(FinishReason.BARRED)

    async def cancel(self, ticket: Ticket) -> None:
        """Give an unused ticket back; its hold is released."""
        if self._tickets.forget(ticket.hold_id) is not None:
            await self._ledger.payables.end_session(ticket.hold_id, "cancelled")

    def _reservation(self, order: Order) -> Reservation | None:
        if order.ticket is None:
            return None
        return self.reservations.use(order.ticket, order.payer, order.card.digest)

    def _most_tokens(self, order: Order, price: Price, among: int, reserved: int = 0) -> int:
        if order.vectors:
            return len(order.vectors)
        context, prompt = order.card.context_length, order.prompt
        room = context - prompt.count if prompt.exact else context
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {prompt.count} tokens; {order.card.context_limit}", param="messages"
            )
        if order.max_tokens is None:
            return self._default_tokens(order, price, min(DEFAULT_MAX_TOKENS, room), among, reserved)
        if order.max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1", param="max_tokens")
        if order.max_tokens > room:
            raise ContextLengthExceeded(
                f"{prompt.count} prompt tokens and {order.max_tokens} of the answer are too many;"
                f" {order.card.context_limit}",
                param="max_tokens",
            )
        return order.max_tokens

    def _default_tokens(self, order: Order, price: Price, most: int, among: int, reserved: int) -> int:
        headroom = self._ledger.gate.headroom(order.payer.key, order.payer.permit, reserved)
        if headroom is None:
            return most
        return max(1, min(most, price.tokens_within(Trm(headroom // among), order.prompt.count)))

    def _sign(self, offer: _Offer) -> tuple[HoldOpened, Ticket]:
        """Quote by the provider, acceptance by the payer: the same two records a mesh session starts with."""
        order, ledger, payer = offer.order, self._ledger, offer.order.payer
        drawn = self._random(96)  # one draw: the system call costs more than the bytes
        offered = order.offered or self._own_offer(offer, drawn)
        acceptance, accepted = accept(ledger, payer, offered.quote.provider, offered.record_id, offer.ceiling)
        opened = hold(drawn[80:], acceptance, accepted, offered.signed, order.request_id, ledger.now(), order.purpose)
        ticket = Ticket(
            hold_id=opened.id,
            payer=payer,
            provider=PublicKey(offered.quote.provider),
            card=order.card,
            prompt=order.prompt,
            sampling=order.sampling,
            work=partial(offered.work, acceptance, accepted),
            price=offer.price,
            ceiling=offer.ceiling,
            quote_hash=offered.record_id,
            acceptance_hash=accepted.record_id,
            acceptance=acceptance,
            secret=offered.secret,
            request_id=order.request_id,
            counterpart=offered.counterpart,
        )
        return opened, ticket

    def _own_offer(self, offer: _Offer, drawn: bytes) -> Offered:
        """This node's own quote, signed."""
        order, engine = offer.order, offer.order.engine
        assert engine is not None
        secret = session_secret(drawn[:32], drawn[32:64])
        hashed = prompt_hash(secret, order.prompt.tokens, order.prompt.text, offer.shaping)
        parties = Parties(self._node.public_key, order.payer.key, order.payer.scope)
        record = quote(
            self._ledger,
            self._heads,
            parties,
            order.card,
            order.prompt.count,
            hashed,
            order.sampling,
            offer.price,
            drawn[64:80],
        )
        own = signed(record, self._node)

        def work(*_: object) -> AbstractAsyncContextManager[Generation]:
            if order.vectors:
                return engine.embed(order.vectors, order.dimensions)
            return engine.generate(order.prompt, order.sampling)

        return Offered(record, SignedBody(own.body, own.signature), own.record_id, secret, order.card, work, None)
