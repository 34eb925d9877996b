"""The provider's side of one session: offer, serve inside the window, take vouchers, countersign the last one.

Nothing is served on a promise that is not on disk: the acceptance is journaled before the engine begins, each voucher
before more than K tokens go out beyond it (PROTOCOL B7, B11). However it ends, the last voucher becomes a trade.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    MeshError,
    QueueFull,
    StreamEnded,
    TiramiError,
    WireError,
)
from tirami.core.keys import Digest, PublicKey, SigningKey
from tirami.core.units import MICRO, TokenCount, Trm, UnixMs
from tirami.infer import Chunk, Engine, FinishReason, Generation, Sampling, Shaping, flop
from tirami.ledger import Admitted, Heads, Ledger, Price
from tirami.market.quoting import Parties, quote
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session.meanwhile import meanwhile
from tirami.net.session.sale import Sale, unpaid
from tirami.net.session.terms import IDLE_S, SESSION_S, TO_PROVIDER, WORKING_S, afforded, slack, window
from tirami.net.transport import Stream
from tirami.proto import (
    Accept,
    Ask,
    Cancel,
    Cited,
    Finish,
    ModelFacts,
    Offer,
    Payment,
    Piece,
    Quote,
    Refused,
    RunningHash,
    Settled,
    Shown,
    SignedBody,
    Trade,
    Working,
    amount_due,
    decode,
    prompt_hash,
    session_secret,
    signed,
)

_log = structlog.get_logger()
MOST_PER_PEER: Final = 4
"""Sessions one peer may have open, quotes included."""


@dataclass(frozen=True, slots=True)
class Terms:
    """At what price an engine serves now."""

    engine: Engine
    price: Price
    known: bool = False
    """Whether its payer is no stranger: the whole window runs ahead of the vouchers."""


class Desk(Protocol):
    """Where a stranger gets a place at an engine."""

    def serve(self, model_digest: Digest, payer: PublicKey) -> AbstractAsyncContextManager[Terms]:
        """A place at the engine of this model. Raises ``ModelNotFound``, ``QueueFull``, ``EngineError``, ``Paused``."""


Booked = Callable[[Admitted], Awaitable[None]]


class Provider:
    """Serves sessions of other nodes' payers.

    Args:
        booked: told of every trade, once it is durable.
        seen: shown every acceptance that was checked.
        sold: told how every session ended that was accepted.
    """

    def __init__(
        self,
        ledger: Ledger,
        heads: Heads,
        node: SigningKey,
        desk: Desk,
        random: Callable[[int], bytes],
        booked: Booked,
        seen: Callable[[Sequence[Cited]], None] = lambda _: None,
        sold: Callable[[Sale], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._heads = heads
        self._node = node
        self._desk = desk
        self._random = random
        self._booked = booked
        self._seen = seen
        self._sold = sold
        self._running: set[_Serving] = set()
        self.sold = 0
        """Sessions that became a trade."""
        self._asking: Counter[PublicKey] = Counter()
        ledger.on_kill(self._kill)

    @property
    def running(self) -> int:
        return len(self._running)

    async def serve(self, peer: PublicKey, stream: Stream, ask: Ask) -> None:
        """One session on a stream of its own, from its first message on. Raises nothing of the peer's making."""
        writer = FrameWriter(stream)
        try:
            with self._one_more(peer):
                async with asyncio.timeout(SESSION_S):
                    await self._serve(stream, writer, ask)
        except TiramiError as error:
            await _refuse(stream, writer, error)
        except TimeoutError:
            await stream.reset()

    async def _serve(self, stream: Stream, writer: FrameWriter, ask: Ask) -> None:
        sampling = _sampling(ask)
        self._ledger.gate.check_open()
        async with self._desk.serve(Digest(ask.model_digest), PublicKey(ask.payer)) as terms:
            serving = await self._offered(ask, terms, sampling)
            await writer.write(serving.offer)
            reader = FrameReader(stream, TO_PROVIDER)
            async with asyncio.timeout(serving.quote.lifetime_ms / 1000):
                accept = await reader.read()
            if not isinstance(accept, Accept):
                raise WireError(f"an Accept follows an Offer, not a {type(accept).__name__}")
            await serving.open(accept, reader, writer)
            self._seen([Cited("acceptance", accept.acceptance.body, accept.acceptance.signature)])
            self._running.add(serving)
            try:
                await serving.run()
            finally:
                self._running.discard(serving)
                admitted = await serving.settled()
                self._sold(serving.sale(PublicKey(ask.payer)))
            if admitted is not None:
                self.sold += 1
                await self._booked(admitted)

    async def _offered(self, ask: Ask, terms: Terms, sampling: Sampling) -> "_Serving":
        engine, price, card = terms.engine, terms.price, terms.engine.card
        if price.prompt > ask.max_price_in or price.completion > ask.max_price_out:
            raise InvalidRequest("dearer than asked for", param="max_price_out", price_out=price.completion)
        if len(ask.prompt) + sampling.max_tokens > card.context_length:
            raise ContextLengthExceeded(f"the model's context is {card.context_length} tokens", param="max_tokens")
        prompt = await engine.prepare_text(ask.prompt)
        if prompt.count != len(ask.prompt) or not prompt.exact:
            raise EngineFailed("this engine does not take token ids as they are")
        nonce = self._random(32)
        secret = session_secret(ask.nonce, nonce)
        record = quote(
            self._ledger,
            self._heads,
            Parties(self._node.public_key, PublicKey(ask.payer), 0),
            card,
            len(ask.prompt),
            prompt_hash(secret, ask.prompt, "", ask.shaping),
            sampling,
            price,
            self._random(16),
        )
        own = signed(record, self._node)
        facts = ModelFacts(
            card.name,
            card.context_length,
            card.parameters,
            card.active_parameters,
            card.layers,
            card.hidden,
            card.quantization,
        )
        incarnation, number, pieces = self._ledger.state.last_signed(ask.payer)
        shown = tuple(Shown(*piece) for piece in pieces)
        offer = Offer(SignedBody(own.body, own.signature), nonce, facts, incarnation, number, shown)
        generate = engine.generate(prompt, sampling)
        return _Serving(self._ledger, self._random(16), record, offer, secret, terms, generate)

    @contextmanager
    def _one_more(self, peer: PublicKey) -> Iterator[None]:
        """A quote keeps a place at the engine for half a minute: no peer keeps them all. Raises ``QueueFull``."""
        if self._asking[peer] >= MOST_PER_PEER:
            raise QueueFull(f"{MOST_PER_PEER} sessions of this peer are open", retry_after=1)
        self._asking[peer] += 1
        try:
            yield
        finally:
            self._asking[peer] -= 1
            if not self._asking[peer]:
                del self._asking[peer]

    def _kill(self) -> None:
        for serving in list(self._running):
            serving.stop(FinishReason.KILLED)


class _Serving:
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
        self._claim_id = claim_id
        self._offered_ms = UnixMs(record.at_ms)
        self._card = terms.engine.card
        self._generate = generate
        self._hash = RunningHash(secret)
        self._window = window(ledger.network.parameters, record.price_out, known=terms.known)
        self._most = TokenCount(record.max_tokens)
        self._sent = TokenCount(0)
        self._covered = TokenCount(0)
        """Sent up to the piece the last voucher names."""
        self._vouched = TokenCount(0)
        """Tokens it counts, which may be a few less (B10)."""
        self._pieces: dict[bytes, TokenCount] = {}
        """Count by running hash, of the pieces no voucher has covered yet."""
        self._news = asyncio.Event()
        self._reason: FinishReason | None = None
        self._opened = False
        self._generation: Generation | None = None
        self._answering: asyncio.Task[None] | None = None

    async def open(self, accept: Accept, reader: FrameReader, writer: FrameWriter) -> None:
        """Check the acceptance and have it on disk."""
        self._reader, self._writer = reader, writer
        acceptance, written = self._ledger.receivables.open(
            self._claim_id, self.quote, self.offer.quote, accept.acceptance, self._offered_ms
        )
        self._opened = True
        await written
        q = self.quote
        self._acceptance = acceptance
        self._most = afforded(q.price_in, q.price_out, q.prompt_tokens, Trm(acceptance.ceiling), q.max_tokens)

    def stop(self, reason: FinishReason) -> None:
        """End the answer now; what was vouched for is settled."""
        self._reason = self._reason or reason
        if self._answering is not None:
            self._answering.cancel()

    async def run(self) -> None:
        """Stream the answer while vouchers come in, then wait for the one that covers it all."""
        listening = asyncio.create_task(self._listen(), name="vouchers")
        answering = self._answering = asyncio.create_task(self._answer(), name="answer")
        try:
            await asyncio.wait((listening, answering), return_when=asyncio.FIRST_COMPLETED)
            if listening.done() and not answering.done():
                self.stop(FinishReason.CANCELLED)
            await asyncio.wait((answering,))
            if not answering.cancelled() and (error := answering.exception()) is not None:
                raise error
            if not listening.done():
                await asyncio.wait((listening,), timeout=IDLE_S)
            if listening.done() and not listening.cancelled() and (error := listening.exception()) is not None:
                _log.info("vouchers_ended", claim=self._claim_id.hex(), reason=str(error))
        finally:
            for task in (listening, answering):
                task.cancel()
            await asyncio.gather(listening, answering, return_exceptions=True)

    async def settled(self) -> Admitted | None:
        """Countersign the last voucher, book the trade and tell the payer; ``None`` when nothing was vouched for."""
        if not self._opened or self._claim_id not in self._ledger.state.claims.open:
            return None
        reason = self._reason or FinishReason.FAILED
        admitted = await self._ledger.receivables.settle(self._claim_id, reason.value)
        if admitted is not None:
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._writer.write(Settled(admitted.record_id, admitted.envelope.signatures[1]))
            except (MeshError, TimeoutError):
                _log.info("settlement_untold", trade=admitted.record_id.hex())  # gossip will tell it
        return admitted

    def sale(self, payer: PublicKey) -> Sale:
        """How it ended."""
        lost = unpaid(self.quote, self._sent, self._vouched) if self._sent > self._covered else Trm(0)
        reading = self._generation.reading() if self._generation is not None else None
        reason = self._reason or FinishReason.FAILED
        sale = Sale(self._card.name, payer, reason, reading, self._sent, self._vouched, lost)
        _log.info("sold", payer=payer.hex(), reason=reason.value, sent=sale.sent, vouched=sale.vouched, unpaid=lost)
        return sale

    async def _answer(self) -> None:
        try:
            async with self._generate as generation:
                self._generation = generation
                chunks = aiter(generation)
                chunk = await meanwhile(_next(chunks), WORKING_S, self._working)
                while chunk is not None and await self._send(chunk):
                    chunk = await _next(chunks)
                self._reason = self._reason or generation.finish_reason or FinishReason.LENGTH
        except TiramiError as error:
            if isinstance(error, MeshError) or self._generation is None:
                raise
            self._reason = self._reason or FinishReason.FAILED
        except asyncio.CancelledError:
            if self._reason is None or self._generation is None:
                raise
        await self._finish()

    async def _working(self) -> None:
        await self._writer.write(Working(0))

    async def _send(self, chunk: Chunk) -> bool:
        """Hand a chunk out as far as window and ceiling allow; whether to go on."""
        if not chunk.ids and chunk.text:
            self._reason = FinishReason.FAILED  # an answer without ids cannot be checked, and is not sold
            return False
        if chunk.count > self._most:
            self._reason = FinishReason.LENGTH
            return False
        while self._sent > self._covered and self._is_ahead(chunk.count):
            self._news.clear()
            async with asyncio.timeout(IDLE_S):
                await self._news.wait()
        text = chunk.text.encode()
        self._hash.update(chunk.ids, text)
        self._sent = chunk.count
        digest = self._hash.digest()
        self._pieces[digest] = chunk.count
        await self._writer.write(Piece(chunk.ids, text, chunk.count, digest))
        return self._reason is None

    def _is_ahead(self, count: int) -> bool:
        """Whether so many tokens are more than the window beyond what vouchers cover, or than what they count (B11)."""
        return count - self._covered > self._window or count - self._vouched > self._window + slack(self._sent)

    async def _finish(self) -> None:
        assert self._generation is not None
        reading = self._generation.reading()
        reason = self._reason or FinishReason.FAILED
        await self._writer.write(
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
        """Take vouchers until one covers the whole answer, or the payer has said all it will."""
        while not (self._reason is not None and self._covered == self._sent):
            try:
                message = await self._reader.read()
            except StreamEnded:
                return
            match message:
                case Payment():
                    await self._take(message)
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
        await self._ledger.receivables.take(self._claim_id, expected, payment.trade)
        self._pieces = {digest: count for digest, count in self._pieces.items() if count >= delivered}
        self._covered, self._vouched = delivered, TokenCount(counted)
        self._news.set()


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


def _sampling(ask: Ask) -> Sampling:
    """How the payer wants it drawn. Raises ``InvalidRequest``."""
    if not ask.max_tokens > 0 or ask.temperature_ppm > 2 * MICRO or ask.top_p_ppm > MICRO or ask.seed >= 1 << 32:
        raise InvalidRequest("the sampling is out of range", param="sampling")
    try:
        shaping = msgspec.json.decode(ask.shaping, type=Shaping) if ask.shaping else Shaping()
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"not what shapes an answer: {error}", param="shaping") from error
    if shaping.canonical() != ask.shaping:
        raise InvalidRequest("what shapes the answer is not in its canonical form", param="shaping")
    return Sampling(
        max_tokens=ask.max_tokens,
        seed=ask.seed,
        temperature=ask.temperature_ppm / MICRO,
        top_p=ask.top_p_ppm / MICRO,
        top_k=ask.top_k,
        shaping=shaping,
    )


async def _refuse(stream: Stream, writer: FrameWriter, error: TiramiError) -> None:
    """Tell the payer why, if it still listens."""
    _log.info("session_refused", code=error.code, reason=error.message)
    with suppress(MeshError, TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await writer.write(Refused(error.code, error.message[:1024], error.retry_after or 0))
            await stream.finish()
