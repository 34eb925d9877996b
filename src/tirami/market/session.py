"""A metered session: stream an answer, sign for it while it runs, settle what was delivered (PROTOCOL B7, B11, B13).

The same steps as between two machines, with both keys at hand: a voucher, durable, before more than 64 tokens are
delivered beyond the last one; at the end a voucher for exactly what was delivered, countersigned into a trade.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from tirami.core.errors import KillSwitchActive, SpendDenied, TiramiError
from tirami.core.keys import Digest
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import TokenCount, Trm
from tirami.infer import Chunk, FinishReason, Generation, Reading, flop
from tirami.ledger import Ledger
from tirami.market.tickets import Ticket
from tirami.proto import RunningHash, Trade, Voucher, amount_due, signed

_log = structlog.get_logger()

VOUCHER_TOKENS = 64
"""K: the most tokens delivered without a durable voucher."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a session ended. ``trade`` and ``record_id`` are ``None`` when nothing was delivered or owed."""

    reason: FinishReason
    reading: Reading
    trade: Trade | None
    record_id: Digest | None

    @property
    def cost(self) -> Trm:
        return Trm(self.trade.amount) if self.trade else Trm(0)


class MeteredSession:
    """Use as an async context manager and iterate for chunks; leaving it settles or releases, whatever happened.

    A chunk counts as delivered when the consumer comes back for the next one (streamed), or all at once by
    :meth:`deliver` (not streamed: nothing is owed before the whole answer can be handed over).
    """

    def __init__(self, ledger: Ledger, ticket: Ticket, *, streamed: bool) -> None:
        self._ledger = ledger
        self._ticket = ticket
        self._streamed = streamed
        self._context: AbstractAsyncContextManager[Generation] | None = None
        self._generation: Generation | None = None
        self._chunks: AsyncIterator[Chunk] | None = None
        self._pending: list[Chunk] = []
        """Yielded, not yet known to be delivered."""
        self._delivered = TokenCount(0)
        self._vouched = TokenCount(0)
        self._voucher: Voucher | None = None
        self._hash = RunningHash(ticket.secret)
        self._puller: asyncio.Task[object] | None = None
        self._killed = False
        self._reason: FinishReason | None = None
        self._settlement: Settlement | None = None

    @property
    def settlement(self) -> Settlement:
        """Valid after :meth:`settle`."""
        assert self._settlement is not None
        return self._settlement

    @property
    def killed(self) -> bool:
        return self._killed

    def reading(self) -> Reading:
        assert self._generation is not None
        return self._generation.reading()

    async def __aenter__(self) -> Self:
        self._forget_kill = self._ledger.on_kill(self._stop)
        self._context = self._ticket.engine.generate(self._ticket.prompt, self._ticket.sampling)
        try:
            self._generation = await self._context.__aenter__()
        except BaseException:
            self._forget_kill()
            await uninterrupted(self._ledger.release(self._ticket.hold_id, "engine failed"))
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
            if self._settlement is None:
                self._reason = self._reason or (
                    FinishReason.FAILED if isinstance(error, TiramiError) else FinishReason.CANCELLED
                )
                await uninterrupted(self.settle())
            self._forget_kill()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._streamed:
            self.deliver()
        chunk = None if self._killed else await self._pull()
        if chunk is None:
            raise StopAsyncIteration
        if self._streamed and chunk.count - self._vouched > VOUCHER_TOKENS and self._delivered > self._vouched:
            try:
                await self._vouch()
            except KillSwitchActive:
                self._stop()
            if self._killed:
                raise StopAsyncIteration
        self._pending.append(chunk)
        return chunk

    def deliver(self) -> None:
        """Everything yielded so far has reached the consumer."""
        for chunk in self._pending:
            self._delivered = chunk.count
            self._hash.update(chunk.ids, chunk.text.encode())
        self._pending.clear()

    async def settle(self) -> Settlement:
        """Sign for what was delivered, countersign, book. Idempotent; durable when it returns."""
        if self._settlement is not None:
            return self._settlement
        reason = FinishReason.KILLED if self._killed else self._reason or FinishReason.STOP
        reading = self.reading()
        if self._delivered > self._vouched:
            try:
                self._vouch()  # durable together with the capture below: both are in one group of the journal
            except KillSwitchActive:
                reason = FinishReason.KILLED
            except SpendDenied:
                reason = FinishReason.FAILED
        hold_id = self._ticket.hold_id
        if self._voucher is None:
            await self._ledger.release(hold_id, reason.value)
            self._settlement = Settlement(reason, reading, None, None)
        else:
            admitted = await self._ledger.capture(hold_id, self._voucher)
            trade = admitted.body
            assert isinstance(trade, Trade)
            self._settlement = Settlement(reason, reading, trade, admitted.record_id)
        self._log()
        return self._settlement

    def _log(self) -> None:
        """Two lines a session, with the request's id: what the engine did, and what the journal holds of it."""
        settlement, request_id = self.settlement, self._ticket.request_id
        reading, trade = settlement.reading, settlement.trade
        _log.info(
            "generated",
            request_id=request_id,
            model=self._ticket.engine.card.name,
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
            hold=self._ticket.hold_id.hex(),
            trade=settlement.record_id.hex() if settlement.record_id else None,
            delivered=trade.completion_tokens if trade else 0,
            cost=settlement.cost,
            entry=self._ledger.seq,
        )

    async def _pull(self) -> Chunk | None:
        """The engine's next chunk; ``None`` at the end of the answer or when the kill switch was thrown."""
        assert self._chunks is not None and self._generation is not None
        self._puller = asyncio.current_task()
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._reason = self._generation.finish_reason
            return None
        except asyncio.CancelledError:
            if self._killed and self._puller is not None and self._puller.uncancel() == 0:
                return None
            raise
        except TiramiError:
            self._reason = FinishReason.FAILED
            raise
        finally:
            self._puller = None

    def _stop(self) -> None:
        if self._killed:
            return
        self._killed = True
        if self._puller is not None:
            self._puller.cancel()

    def _vouch(self) -> Awaitable[None]:
        """The payer signs the running total of what was delivered; await it before anything more is delivered."""
        self._ledger.check_voucher(self._ticket.hold_id)
        trade = self._trade()
        ticket = self._ticket
        half = signed(trade, ticket.payer.signer)
        voucher = Voucher(
            trade_body=half.body,
            payer_signature=half.signature,
            acceptance_body=ticket.acceptance_body,
            acceptance_signature=ticket.acceptance_signature,
        )
        written = self._ledger.vouch(ticket.hold_id, Trm(trade.amount), voucher)
        self._voucher, self._vouched = voucher, self._delivered
        return written

    def _trade(self) -> Trade:
        ticket, card = self._ticket, self._ticket.engine.card
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
