"""A metered session: stream an answer, sign for it while it runs, settle what was delivered (PROTOCOL B7, B11, B13).

The same steps as between two machines, with both keys at hand: a voucher, durable, before more than K tokens (64, a
parameter of the network file) are delivered beyond the last one; at the end a voucher for exactly what was delivered,
countersigned into a trade.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import structlog

from tirami.core.errors import (
    EngineError,
    InvalidSignature,
    KillSwitchActive,
    SpendDenied,
    TiramiError,
    UpstreamUnavailable,
)
from tirami.core.keys import Digest, PublicKey
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import TokenCount, Trm
from tirami.infer import Chunk, FinishReason, Generation, Reading, flop
from tirami.ledger import Admitted, Ledger
from tirami.market.counterparts import Counterpart, signed_from
from tirami.market.meter import Meter
from tirami.market.tickets import Ticket
from tirami.proto import RunningHash, Signed, Trade, amount_due, decode, signed

T = TypeVar("T")
_log = structlog.get_logger()
SLOW_S = 5.0
"""Seconds after which what was received of a provider elsewhere is signed for although it is little: who waits much
longer for a voucher gives a slow reader up (``net.session.terms.IDLE_S``)."""


class Interrupted(Exception):
    """Somebody else ended this session: the kill switch, or a node that stops."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a session ended. ``trade`` and ``record_id`` are ``None`` when nothing was delivered or it is only owed.

    Attributes:
        denied: why the payer could not sign for the last tokens that were delivered, if it could not.
        owed: the last voucher of a provider elsewhere that has not countersigned: its trade may still come (B7).
    """

    reason: FinishReason
    reading: Reading
    trade: Trade | None
    record_id: Digest | None
    denied: SpendDenied | None = None
    owed: Trade | None = None

    @property
    def bill(self) -> Trade | None:
        """What the payer has signed for, with the provider's signature or still without."""
        return self.trade or self.owed

    @property
    def cost(self) -> Trm:
        return Trm(self.bill.amount) if self.bill else Trm(0)


class MeteredSession:
    """Use as an async context manager and iterate for chunks; leaving it settles or releases, whatever happened.

    A chunk counts as delivered when the consumer comes back for the next one (streamed), unless some of it is
    ``withheld``, or all at once by :meth:`deliver` (not streamed: nothing is owed before the whole answer can be handed
    over). What another node sells counts once it was received, withheld or not, also if the consumer leaves with it:
    the other waits for the voucher (B11).
    """

    def __init__(
        self, ledger: Ledger, ticket: Ticket, running: "set[MeteredSession]", meter: Meter, *, streamed: bool
    ) -> None:
        """``running`` holds this session from entering to leaving."""
        self._ledger = ledger
        self._meter = meter
        self._ticket = ticket
        self._running = running
        self._counterpart = ticket.counterpart
        self._window = ledger.network.parameters.voucher_tokens
        self._streamed = streamed
        self._context: AbstractAsyncContextManager[Generation] | None = None
        self._generation: Generation | None = None
        self._chunks: AsyncIterator[Chunk] | None = None
        self.withheld = 0
        """Characters at the end of what was yielded that the consumer keeps back until it knows what they are."""
        self._pending: list[Chunk] = []
        """Yielded, not yet known to be delivered."""
        self._delivered = TokenCount(0)
        self._vouched = TokenCount(0)
        self._vouched_s = time.monotonic()
        self._voucher: Signed | None = None
        """The last one signed."""
        self._hash = RunningHash(ticket.secret)
        self._waiting: asyncio.Task[object] | None = None
        self._interrupted: FinishReason | None = None
        self._reason: FinishReason | None = None
        self._settling: asyncio.Task[Settlement] | None = None
        self.ended = asyncio.Event()
        """Set when the session has been left and nothing of it is running any more."""

    @property
    def hold_id(self) -> bytes:
        return self._ticket.hold_id

    @property
    def bought_of(self) -> PublicKey | None:
        """The provider, where it is another node."""
        return None if self._counterpart is None else self._ticket.provider

    @property
    def made(self) -> TokenCount:
        """Tokens of the answer so far, on their way to the consumer or there."""
        return self._pending[-1].count if self._pending else self._delivered

    @property
    def settlement(self) -> Settlement:
        """Valid after :meth:`settle`."""
        assert self._settling is not None
        return self._settling.result()

    @property
    def interrupted(self) -> FinishReason | None:
        """Why somebody else ended this session."""
        return self._interrupted

    def reading(self) -> Reading:
        assert self._generation is not None
        return self._generation.reading()

    async def __aenter__(self) -> Self:
        """Raises ``SpendDenied`` when a switch was thrown since the hold was opened, ``EngineError``, ``Interrupted``.

        The hold is released then.
        """
        self._running.add(self)
        try:
            self._ledger.payables.check_voucher(self.hold_id)
            self._context = self._ticket.work()
            self._generation = await self.interruptible(self._context.__aenter__())
        except BaseException as error:
            self._count(error)
            try:
                await uninterrupted(self._ledger.payables.end_session(self.hold_id, "engine failed"))
            finally:
                self._left()
            raise
        self._chunks = aiter(self._generation)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._context is not None
        try:
            await self._context.__aexit__(kind, error, trace)
        finally:
            failed = isinstance(error, TiramiError)
            self._reason = self._reason or (FinishReason.FAILED if failed else FinishReason.CANCELLED)
            try:
                await self.settle()
            finally:
                self._left()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._streamed:
            self.deliver(self.withheld if self._counterpart is None else 0)
        if self._counterpart is not None and not await self._pay_ahead(self._counterpart):
            raise StopAsyncIteration
        chunk = await self._pull()
        if chunk is None:
            raise StopAsyncIteration
        if self._streamed and chunk.count - self._vouched > self._window and self._delivered > self._vouched:
            await self._vouch_or_stop()
            if self._interrupted:
                raise StopAsyncIteration
        self._pending.append(chunk)
        return chunk

    def deliver(self, withheld: int = 0) -> None:
        """Everything yielded so far has reached the consumer, but for as many characters at its end."""
        kept: list[Chunk] = []
        while self._pending and withheld > 0:
            kept.insert(0, self._pending.pop())
            withheld -= len(kept[0].text)
        for chunk in self._pending:
            self._delivered = chunk.count
            self._hash.update(chunk.ids, chunk.spelled)
        self._pending = kept

    async def settle(self) -> Settlement:
        """Sign for what was delivered, countersign, book. Done once, to its end; durable when it returns.

        Raises ``StorageUnavailable``: the hold then stays open until the journal can be written again.
        """
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle(), name="settle")
        return await uninterrupted(self._settling)

    def interrupt(self, reason: FinishReason) -> None:
        """End the answer now; what was delivered and may be signed for is settled. The first reason stands."""
        if self._interrupted:
            return
        self._interrupted = reason
        if self._waiting is not None:
            self._waiting.cancel()

    async def interruptible(self, work: Awaitable[T]) -> T:
        """Await ``work`` in the task that owns this session. Raises ``Interrupted`` as soon as it is."""
        if self._interrupted:
            if isinstance(work, Coroutine):
                work.close()
            raise Interrupted
        task = self._waiting = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if self._interrupted and task is not None and task.uncancel() == 0:
                raise Interrupted from None
            raise
        finally:
            self._waiting = None

    async def _settle(self) -> Settlement:
        assert self._generation is not None
        began = time.perf_counter()
        reason = self._interrupted or self._reason or FinishReason.STOP
        self._generation.end(reason)  # who was interrupted while a chunk was sent has not told it
        if self._counterpart is not None and self._interrupted is None:
            self.deliver()  # what its client did not come back for was received all the same
        reading = self.reading()
        denied: SpendDenied | None = None
        try:
            admitted = await self._end(reason)
        except SpendDenied as error:
            denied = error
            reason = FinishReason.KILLED if isinstance(error, KillSwitchActive) else FinishReason.FAILED
            admitted = await self._ledger.payables.end_session(self.hold_id, reason.value)
        if admitted is None:
            settlement = Settlement(reason, reading, None, None, denied, self._owed())
        else:
            trade = admitted.body
            assert isinstance(trade, Trade)
            settlement = Settlement(reason, reading, trade, admitted.record_id, denied)
        self._log(settlement)
        model = self._ticket.card.name
        if self._counterpart is None:  # the times of another node are its own word
            self._meter.made(model, reading)
        self._meter.settled(model, reason, time.perf_counter() - began)
        return settlement

    def _owed(self) -> Trade | None:
        """What a provider elsewhere has a voucher for and has not booked with us."""
        if self._counterpart is None or self._voucher is None:
            return None
        return decode(Trade, self._voucher.body)

    async def _end(self, reason: FinishReason) -> Admitted | None:
        """Sign for the rest and have the trade; of another node, which may be silent, perhaps only what it is owed."""
        unsigned = self._delivered > self._vouched
        counterpart, ledger = self._counterpart, self._ledger
        if counterpart is None:
            return await ledger.payables.end_session(self.hold_id, reason.value, self._sign if unsigned else None)
        if unsigned and not counterpart.gone and self._interrupted is not FinishReason.BARRED:
            await self._vouch()
        if self._voucher is not None and not counterpart.gone:
            signature = await counterpart.countersigned(self._voucher.record_id)
            if signature is not None:
                with suppress(InvalidSignature):  # then it is none, and what was vouched for stays owed
                    return await ledger.payables.capture(self.hold_id, signature)
        return await ledger.payables.end_session(self.hold_id, reason.value)

    async def _pay_ahead(self, provider: Counterpart) -> bool:
        """Keep vouchers half a window or a few seconds behind what arrived, so that the provider never waits for long.

        Whether to go on.
        """
        unsigned, late = self._delivered - self._vouched, time.monotonic() - self._vouched_s > SLOW_S
        if not provider.gone and (unsigned >= signed_from(provider.window) or (unsigned and late)):
            await self._vouch_or_stop()
        return self._interrupted is None

    async def _vouch_or_stop(self) -> None:
        if self._interrupted is FinishReason.BARRED:
            return
        try:
            await self._vouch()
        except KillSwitchActive:
            self.interrupt(FinishReason.KILLED)

    async def _pull(self) -> Chunk | None:
        """The engine's next chunk; ``None`` at the end of the answer or when the session was interrupted."""
        assert self._chunks is not None and self._generation is not None
        try:
            chunk = await self.interruptible(anext(self._chunks))
        except Interrupted:
            return None
        except StopAsyncIteration:
            self._reason = self._generation.finish_reason
            return None
        except Exception as error:
            self._count(error)
            self._reason = FinishReason.FAILED
            raise
        return chunk

    def _count(self, error: BaseException) -> None:
        """An engine that fails counts against the payer's breaker; what the client or the gate ended does not.

        Nor does another node that failed before anything was signed for: that cost nothing, and somebody else is asked.
        Nor an upstream that is away: it did nothing, and an outage must not lock its callers out for longer.
        """
        fault = isinstance(error, Exception) and not isinstance(error, TiramiError | Interrupted)
        free = (self._counterpart is not None and self._voucher is None) or isinstance(error, UpstreamUnavailable)
        if fault or (isinstance(error, EngineError) and not free):
            self._ledger.payables.fail(self.hold_id)

    async def _vouch(self) -> None:
        """The payer signs the running total of what was delivered; await it before anything more is delivered."""
        delivered = self._delivered
        await self._ledger.payables.vouch(self.hold_id, self._sign)
        self._vouched, self._vouched_s = delivered, time.monotonic()
        if self._counterpart is not None and self._voucher is not None:
            await self._counterpart.pay(self._voucher)

    def _sign(self) -> tuple[Trm, Signed]:
        trade = self._trade()
        self._voucher = signed(trade, self._ticket.payer.signer)
        return Trm(trade.amount), self._voucher

    def _left(self) -> None:
        self._running.discard(self)
        self.ended.set()

    def _trade(self) -> Trade:
        ticket, card = self._ticket, self._ticket.card
        prompt_tokens = min(self.reading().prompt_tokens, ticket.prompt.count)
        return Trade(
            network=ticket.acceptance.network,
            scope=ticket.payer.scope,
            provider=ticket.provider,
            payer=ticket.payer.key,
            incarnation=ticket.acceptance.incarnation,
            session=ticket.acceptance.number,
            quote_hash=ticket.quote_hash,
            acceptance_hash=ticket.acceptance_hash,
            model_digest=card.digest,
            tokenizer_digest=card.tokenizer_digest,
            price_in=ticket.price.prompt,
            price_out=ticket.price.completion,
            prompt_tokens=prompt_tokens,
            completion_tokens=self._delivered,
            amount=amount_due(ticket.price.prompt, ticket.price.completion, prompt_tokens, self._delivered),
            flop=flop(card, prompt_tokens, self._delivered),
            running_hash=self._hash.digest(),
            at_ms=self._ledger.now(),
        )

    def _log(self, settlement: Settlement) -> None:
        """Two lines a session, with the request's id: what the engine did, and what the journal holds of it."""
        reading, trade, request_id = settlement.reading, settlement.trade, self._ticket.request_id
        _log.info(
            "generated",
            request_id=request_id,
            model=self._ticket.card.name,
            reason=settlement.reason.value,
            prompt_tokens=reading.prompt_tokens,
            completion_tokens=reading.completion_tokens,
            flop=reading.flop,
            ttft_ms=reading.ttft_ms,
            wall_ms=reading.wall_ms,
            peak_memory_bytes=reading.peak_memory_bytes,
        )
        _log.info(
            "settled",
            request_id=request_id,
            hold=self.hold_id.hex(),
            trade=settlement.record_id.hex() if settlement.record_id else None,
            delivered=trade.completion_tokens if trade else 0,
            owed=settlement.owed.amount if settlement.owed else 0,
            cost=settlement.cost,
            entry=self._ledger.seq,
        )
