"""A session that was offered: the answer runs inside the window, vouchers come in, the last one becomes a trade.

The engine begins once the acceptance is checked. Nothing goes out on a promise that is not on disk: the first piece
waits for the acceptance, later ones for the vouchers they run ahead of (PROTOCOL B7, B11).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import structlog

from tirami.core.errors import MeshError, StorageUnavailable, StreamEnded, TiramiError, WireError
from tirami.core.keys import PublicKey
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import TokenCount, Trm
from tirami.infer import Chunk, FinishReason, Generation, flop
from tirami.ledger import Admitted, Ledger
from tirami.ledger.receivables import Seen
from tirami.market.counterparts import signed_from
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session.counted import Counted
from tirami.net.session.desk import Terms
from tirami.net.session.meanwhile import meanwhile
from tirami.net.session.pieces import divided
from tirami.net.session.sale import Sale, unpaid
from tirami.net.session.terms import IDLE_S, WORKING_S, afforded, window
from tirami.proto import (
    MAX_PIECE,
    Accept,
    Cancel,
    Finish,
    Message,
    Offer,
    Payment,
    Piece,
    Quote,
    RunningHash,
    Settled,
    Trade,
    Working,
    amount_due,
    decode,
)

_log = structlog.get_logger()


class Serving:
    """A session that has been offered."""

    def __init__(
        self,
        ledger: Ledger,
        claim_id: bytes,
        record: Quote,
        offer: Offer,
        secret: bytes,
        terms: Terms,
        generate: AbstractAsyncContextManager[Generation],
    ) -> None:
        self.quote = record
        self.offer = offer
        self._ledger = ledger
        self.claim_id = claim_id
        self._card = terms.engine.card
        self._generate = generate
        self._hash = RunningHash(secret)
        self._window = window(ledger.network.parameters, record.price_out, known=terms.known)
        self._most = TokenCount(record.max_tokens)
        self._sent = TokenCount(0)
        self._counted = Counted(terms.canon)
        self._decode = terms.canon.decode
        self._due = TokenCount(0)
        """Tokens of what was sent that are paid for, as an honest payer counts them (B10)."""
        self._vouched = TokenCount(0)
        """Tokens the last voucher counts."""
        self._pieces: dict[bytes, TokenCount] = {}
        """Tokens sent by running hash, of the pieces from the last voucher's on."""
        self._news = asyncio.Event()
        self._own_fault = False
        """Whether a voucher was lost here."""
        self._reason: FinishReason | None = None
        self._opened = False
        self._generation: Generation | None = None
        self._answering: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def open(self, accept: Accept, reader: FrameReader, writer: FrameWriter, seen: Seen) -> None:
        """Check the acceptance and write it down; :meth:`run` waits until it is on disk. ``seen``: who keeps proofs."""
        self._reader, self._writer = reader, writer
        acceptance, self._written = self._ledger.receivables.open(
            self.claim_id, self.quote, self.offer.quote, accept.acceptance, seen
        )
        self._opened = True
        q = self.quote
        self._acceptance = acceptance
        self._most = afforded(q.price_in, q.price_out, q.prompt_tokens, Trm(acceptance.ceiling), q.max_tokens)

    def stop(self, reason: FinishReason) -> None:
        """End the answer now, unless it ends already; what was vouched for is settled."""
        if self._reason is None:
            self._reason = reason
            if self._answering is not None:
                self._answering.cancel()

    def bar(self) -> None:
        """The payer's key was convicted, or has ended: no voucher of it is taken any more, so none is waited for."""
        self.stop(FinishReason.BARRED)
        if self._listening is not None:
            self._listening.cancel()

    async def run(self) -> None:
        """Stream the answer while vouchers come in, say how it ended, then wait for the one that covers it all."""
        listening = self._listening = asyncio.create_task(self._listen(), name="vouchers")
        answering = self._answering = asyncio.create_task(self._answer(), name="answer")
        try:
            await asyncio.wait((listening, answering), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                self.stop(FinishReason.CANCELLED)
            await asyncio.wait((answering,))
            if not answering.cancelled() and (error := answering.exception()) is not None:
                raise error
            if self._generation is not None:
                await self._finish(self._generation)
            await self._paid_up(listening)
            if listening.done() and not listening.cancelled() and (error := listening.exception()) is not None:
                _log.info("vouchers_ended", claim=self.claim_id.hex(), reason=str(error))
        finally:
            for task in (listening, answering):
                task.cancel()
            await asyncio.gather(listening, answering, return_exceptions=True)

    async def _paid_up(self, listening: asyncio.Task[None]) -> None:
        """Until what is due is signed for, or no voucher has come for as long as anybody waits."""
        heard = -1
        while heard < self._vouched < self._due and not listening.done():
            heard = self._vouched
            await asyncio.wait((listening,), timeout=IDLE_S)

    async def settled(self) -> Admitted | None:
        """Countersign the last voucher, book the trade and tell the payer; ``None`` when nothing was vouched for."""
        if not self._opened or self.claim_id not in self._ledger.state.claims.open:
            return None
        reason = self._reason or FinishReason.FAILED
        admitted = await self._ledger.receivables.settle(self.claim_id, reason.value, self._unpaid())
        if admitted is not None:
            try:
                await self._say(Settled(admitted.record_id, admitted.envelope.signatures[1]))
            except (MeshError, TimeoutError):
                _log.info("settlement_untold", trade=admitted.record_id.hex())  # gossip will tell it
        return admitted

    def sale(self, payer: PublicKey) -> Sale:
        """How it ended."""
        lost = self._unpaid()
        reading = self._generation.reading() if self._generation is not None else None
        reason = self._reason or FinishReason.FAILED
        sale = Sale(self._card.name, payer, reason, reading, self._sent, self._due, self._vouched, lost)
        _log.info("sold", payer=payer.hex(), reason=reason.value, sent=sale.sent, vouched=sale.vouched, unpaid=lost)
        return sale

    def _unpaid(self) -> Trm:
        """What is due for what was handed out (B10), and not signed for; TRM."""
        return Trm(0) if self._own_fault else unpaid(self.quote, self._due, self._vouched)

    async def _answer(self) -> None:
        try:
            async with self._generate as generation:
                self._generation = generation
                chunks = aiter(generation)
                chunk = await meanwhile(self._first(chunks), WORKING_S, self._working)
                while chunk is not None and await self._send_all(chunk):
                    chunk = await _next(chunks)
                self._reason = self._reason or generation.finish_reason or FinishReason.LENGTH
        except TiramiError as error:
            if isinstance(error, MeshError) or self._generation is None:
                raise
            self._reason = self._reason or FinishReason.FAILED
        except asyncio.CancelledError:
            if self._reason is None or self._generation is None:
                raise

    async def _first(self, chunks: AsyncIterator[Chunk]) -> Chunk | None:
        """Once the acceptance is on disk: the engine reads the prompt meanwhile, at this node's own risk."""
        reading = asyncio.create_task(_next(chunks), name="first token")
        try:
            await self._written
            return await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _working(self) -> None:
        await self._say(Working(0))

    async def _say(self, message: Message) -> None:
        """To its end: a write that is cancelled resets the stream. Raises ``TimeoutError`` for who does not read."""
        await uninterrupted(self._said(message))

    async def _said(self, message: Message) -> None:
        async with asyncio.timeout(IDLE_S):
            await self._writer.write(message)

    async def _send_all(self, chunk: Chunk) -> bool:
        """Hand a chunk out as far as window and ceiling allow; whether to go on."""
        for part in divided(chunk, self._decode):
            if not await self._send(part):
                return False
        return True

    async def _send(self, chunk: Chunk) -> bool:
        """The same of a part that goes out as one piece."""
        if not chunk.ids or len(chunk.ids) > MAX_PIECE:
            self._reason = FinishReason.UNCHECKABLE  # nobody could count it: the answer ends before it
            return False
        if chunk.count > self._most:
            self._reason = FinishReason.LENGTH
            return False
        text = chunk.spelled
        due = self._counted.feed(chunk.count, text)
        await self._within_window(due)
        self._hash.update(chunk.ids, text)
        self._sent, self._due = chunk.count, due
        digest = self._hash.digest()
        self._pieces[digest] = chunk.count
        await self._say(Piece(chunk.ids, text, chunk.count, digest))
        return self._reason is None

    async def _within_window(self, due: int) -> None:
        """Wait until so many tokens are within K of what is signed for (B11).

        Below half of K an honest payer has not signed yet: a piece that is larger than the other half goes out then,
        for no voucher would come. Raises ``TimeoutError`` when none comes in time.
        """
        while due - self._vouched > self._window and self._due - self._vouched >= signed_from(self._window):
            self._news.clear()
            async with asyncio.timeout(IDLE_S):
                await self._news.wait()

    async def _finish(self, generation: Generation) -> None:
        reading = generation.reading()
        reason = self._reason or FinishReason.FAILED
        await self._say(
            Finish(
                reason=reason.value,
                prompt_tokens=self.quote.prompt_tokens,
                completion_tokens=self._sent,
                flop=reading.flop,
                ttft_us=round((reading.ttft_ms or 0) * 1000),
                wall_us=round(reading.wall_ms * 1000),
            )
        )

    async def _listen(self) -> None:
        """Take vouchers until one pays for the whole answer, or the payer has said all it will."""
        while not (self._reason is not None and self._vouched >= self._due):
            try:
                message = await self._reader.read()
            except StreamEnded:
                return
            match message:
                case Payment():  # once it may be on disk it counts, whatever ends the session meanwhile
                    await uninterrupted(self._take(message))
                case Cancel():  # a voucher for what had arrived may follow
                    self.stop(FinishReason.CANCELLED)
                case _:
                    raise WireError(f"a {type(message).__name__} is out of place here")

    async def _take(self, payment: Payment) -> None:
        q, acceptance = self.quote, self._acceptance
        trade = decode(Trade, payment.trade.body)
        delivered = self._pieces.get(trade.running_hash)
        if delivered is None:
            raise WireError("a voucher for tokens that were not sent")
        counted = trade.completion_tokens
        if counted <= self._vouched:
            raise WireError("a voucher that does not go beyond the last one")
        expected = Trade(
            network=q.network,
            scope=q.scope,
            provider=q.provider,
            payer=q.payer,
            incarnation=acceptance.incarnation,
            session=acceptance.number,
            quote_hash=acceptance.quote_hash,
            acceptance_hash=trade.acceptance_hash,
            model_digest=q.model_digest,
            tokenizer_digest=q.tokenizer_digest,
            price_in=q.price_in,
            price_out=q.price_out,
            prompt_tokens=q.prompt_tokens,
            completion_tokens=delivered,
            amount=amount_due(q.price_in, q.price_out, q.prompt_tokens, counted),
            flop=flop(self._card, q.prompt_tokens, counted),
            running_hash=trade.running_hash,
            at_ms=trade.at_ms,
        )
        try:
            await self._ledger.receivables.take(self.claim_id, expected, payment.trade)
        except StorageUnavailable:
            self._own_fault = True
            raise
        self._pieces = {digest: count for digest, count in self._pieces.items() if count >= delivered}
        self._vouched = TokenCount(counted)
        self._news.set()


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)
