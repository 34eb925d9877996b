"""The payer's side of one session: ask, check the quote, check every piece, and only then sign (PROTOCOL B10–B12).

The provider is believed in nothing: ids are decoded here and compared with the text that came, the running hash is
computed here, tokens are counted here. What does not agree ends the session, and what was checked before is paid.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog

from tirami.core.errors import (
    ConnectionLost,
    EngineFailed,
    MeshError,
    PeerRefused,
    ProviderStalled,
    StreamEnded,
    TokenizerError,
    WireError,
)
from tirami.core.keys import Digest, Signature, sha256
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import MICRO, Flop, TokenCount
from tirami.infer import Chunk, CountedBy, FinishReason, ModelCard, Reading, flop, shown
from tirami.market.counterparts import Offered
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session.counted import Canon, Counted
from tirami.net.session.quoted import Wanted, card_of, checked_quote, wire_id
from tirami.net.session.terms import FIRST_S, IDLE_S, PROMPTLY_S, READ_S, SESSION_S, TO_CONSUMER, window
from tirami.net.transport import Stream
from tirami.proto import (
    Accept,
    Acceptance,
    Ask,
    Cancel,
    Cited,
    Finish,
    Message,
    Offer,
    Payment,
    Piece,
    Quote,
    Refused,
    RunningHash,
    Settled,
    Signed,
    SignedBody,
    Working,
    session_secret,
)

_log = structlog.get_logger()
BROKEN = (FinishReason.FAILED, FinishReason.KILLED, FinishReason.STOPPED)
"""How a provider may end an answer without having kept it."""


async def purchase(
    stream: Stream,
    wanted: Wanted,
    checker: Canon,
    random: Callable[[int], bytes],
    now_ms: int,
    recall: Callable[[Sequence[Cited]], None] = lambda _: None,
    patience_s: float | None = None,
) -> "Purchase":
    """Ask for a quote and check it. Nothing is promised yet.

    Args:
        recall: told what the provider shows of the payer's own signatures, before anything is signed (B9).
        patience_s: how long the provider may be silent before its first token; default ``IDLE_S``.

    Raises ``PeerRefused`` with the provider's own reason, ``BadQuote`` naming the field, ``ConnectionLost``.
    """
    nonce = random(32)
    how = wanted.sampling
    ask = Ask(
        request_id=wire_id(wanted.request_id),
        payer=wanted.payer,
        model_digest=wanted.model_digest,
        prompt=wanted.prompt.tokens,
        max_tokens=how.max_tokens,
        seed=how.seed,
        temperature_ppm=round(how.temperature * MICRO),
        top_p_ppm=round(how.top_p * MICRO),
        top_k=how.top_k,
        shaping=how.shaping.canonical(),
        nonce=nonce,
        max_price_in=wanted.most.prompt,
        max_price_out=wanted.most.completion,
    )
    reader, writer = FrameReader(stream, TO_CONSUMER), FrameWriter(stream)
    asked_s = asyncio.get_running_loop().time()
    try:
        await writer.write(ask)
        offer = await _next(reader, patience_s)
        if not isinstance(offer, Offer):
            raise WireError(f"an Offer answers an Ask, not a {type(offer).__name__}")
        secret = session_secret(nonce, offer.nonce)
        quote = checked_quote(wanted, ask, offer, secret, now_ms)
        recall([Cited(one.kind, one.body, one.signature) for one in offer.shown])
    except BaseException:
        await stream.reset()
        raise
    due_s = asked_s + quote.lifetime_ms / 1000  # never after the provider's own count, which began later
    return Purchase(stream, reader, writer, wanted, offer, quote, secret, checker, patience_s, due_s)


class Purchase:
    """A quote at hand. :attr:`offered` goes into an order; leaving its work, or :meth:`close`, ends the stream."""

    def __init__(
        self,
        stream: Stream,
        reader: FrameReader,
        writer: FrameWriter,
        wanted: Wanted,
        offer: Offer,
        quote: Quote,
        secret: bytes,
        checker: Canon,
        patience_s: float | None,
        due_s: float,
    ) -> None:
        self._stream, self._reader, self._writer = stream, reader, writer
        self._due_s = due_s
        """When the quote ends, by the loop's time."""
        self._wanted = wanted
        self._window = window(wanted.network.parameters, quote.price_out)
        self._answer: RemoteAnswer | None = None
        self._gone = False
        self._unsettled = False
        self.card = card_of(quote, offer)
        self._secret = secret
        self._checker = checker
        self._patience_s = patience_s
        self._quote = quote
        self.offered = Offered(
            quote=quote,
            signed=offer.quote,
            record_id=sha256(Quote.TAG, offer.quote.body),
            secret=secret,
            card=self.card,
            work=self._work,
            counterpart=self,
        )

    @property
    def window(self) -> TokenCount:
        return self._window

    @property
    def gone(self) -> bool:
        return self._gone

    @property
    def kept(self) -> bool | None:
        """Whether the provider kept its word, answer and settlement; ``None`` while open, or where that says nothing
        of it: no token came, the next ones could not have been checked, or it left because nobody read on here."""
        answer = self._answer
        if answer is None:
            return None
        if answer.finish_reason in BROKEN or (self._unsettled and not answer.overdue):
            return False
        if self._unsettled or answer.finish_reason in (None, FinishReason.UNCHECKABLE, FinishReason.IDLE):
            return None
        return True if answer.reading().completion_tokens else None

    @property
    def empty(self) -> bool:
        """Whether the answer ended before its first token, as if nothing were wrong."""
        answer = self._answer
        ends = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.UNCHECKABLE)
        return answer is not None and answer.finish_reason in ends and not answer.reading().completion_tokens

    async def pay(self, voucher: Signed) -> None:
        await self._say(Payment(SignedBody(voucher.body, voucher.signature)))

    async def countersigned(self, record_id: Digest) -> Signature | None:
        """Wait for the signature while what the provider sent before it is passed over."""
        with suppress(MeshError, TimeoutError):
            await self._stream.finish()  # no further voucher will come
            async with asyncio.timeout(IDLE_S):
                while not isinstance(message := await _next(self._reader), Settled):
                    pass
            if message.record_id == record_id:
                return Signature(message.signature)
        self._gone = self._unsettled = True
        return None

    async def close(self) -> None:
        """Done with it, whatever state it is in."""
        self._gone = True
        await self._stream.reset()

    @asynccontextmanager
    async def _work(self, _: Acceptance, accepted: Signed) -> AsyncIterator["RemoteAnswer"]:
        if asyncio.get_running_loop().time() > self._due_s:
            raise EngineFailed("the quote expired before it could be accepted")
        await self._say(Accept(SignedBody(accepted.body, accepted.signature)), PROMPTLY_S)
        if self._gone:
            raise EngineFailed("the provider does not take what it is told", retry_after=1)
        answer = RemoteAnswer(
            self._reader,
            self.card,
            self._quote,
            RunningHash(self._secret),
            self._checker,
            self._wanted.sampling.shaping.stop,
            self._patience_s,
        )
        self._answer = answer
        try:
            yield answer
        finally:
            if answer.lost:
                self._gone = True
            elif answer.finish_reason is None or answer.stalled:
                await self._say(Cancel("not wanted any more"), PROMPTLY_S)

    async def _say(self, message: Message, within_s: float | None = None) -> None:
        """To its end: a write that is cancelled resets the stream, and a voucher that was signed is owed."""
        if self._answer is not None:
            self._answer.speak()  # what is said may take long because the provider does not listen
        if not self._gone:
            await uninterrupted(self._said(message, IDLE_S if within_s is None else within_s))

    async def _said(self, message: Message, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._writer.write(message)
        except (MeshError, TimeoutError):
            self._gone = True


class RemoteAnswer:
    """An answer as it arrives, each piece checked before it is yielded. A :class:`~tirami.infer.Generation`.

    It lasts so long at most from when it was accepted, and so does the wait for its first piece: a provider that goes
    on speaking is no reason to keep the payer's money held.
    """

    def __init__(
        self,
        reader: FrameReader,
        card: ModelCard,
        quote: Quote,
        running: RunningHash,
        checker: Canon,
        stop: Sequence[str],
        patience_s: float | None,
    ) -> None:
        self._reader = reader
        self._card = card
        self._quote = quote
        self._hash = running
        self._checker = checker
        self._stop = stop
        self._stopped = False
        """Whether one of those texts has come: the answer ends before it, and nothing after it is wanted."""
        self._patience_s = patience_s
        began, first_s = asyncio.get_running_loop().time(), FIRST_S + READ_S * quote.prompt_tokens
        self._first_s, self._first_due = first_s, began + first_s
        self._due = began + SESSION_S
        self._ids = 0
        self._counted = Counted(checker)
        self._finish: Finish | None = None
        self._reason: FinishReason | None = None
        self.lost = False
        """Whether the provider went away, or said what it may not."""
        self.stalled = False
        """Whether this side ended it, for it took too long; the provider is there and may countersign what arrived."""
        self.overdue = False
        """Whether this side was once silent for so long that the provider may have taken it for gone."""
        self._handed_s: float | None = None
        """When the last piece was handed over, until its reader is back."""
        self._kept_s = 0.0
        """How long readers kept the pieces that were handed over since this side last spoke."""

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._reason

    def end(self, _: FinishReason) -> None:
        """Nothing to do: every reading is of what arrived, and the provider is told when the work is left."""

    def read_on(self) -> None:
        """The reader of the last piece is back."""
        if self._handed_s is not None:
            self._kept_s += asyncio.get_running_loop().time() - self._handed_s
            self.overdue |= self._kept_s > IDLE_S
            self._handed_s = None

    def speak(self) -> None:
        """The provider hears of this side."""
        self.read_on()
        self._kept_s = 0.0

    def reading(self) -> Reading:
        """Times are the provider's word; counts are ours."""
        told = self._finish
        return Reading(
            prompt_tokens=TokenCount(self._quote.prompt_tokens),
            completion_tokens=self._counted.count,
            flop=Flop(flop(self._card, self._quote.prompt_tokens, self._counted.count)),
            ttft_ms=told.ttft_us / 1000 if told else None,
            wall_ms=told.wall_us / 1000 if told else 0.0,
            peak_memory_bytes=0,
            ids_complete=True,
            counted_by=CountedBy.ENGINE,
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Raises ``EngineFailed`` when the provider goes before the first token, ``ProviderStalled`` when it speaks and
        none comes in time; later either is a partial answer."""
        self.read_on()
        if self._reason is not None:
            raise StopAsyncIteration
        try:
            match message := await self._in_time():
                case Piece() if self._stopped:
                    self._reason = FinishReason.STOP
                case Piece():
                    chunk = self._checked(message)
                    self._handed_s = asyncio.get_running_loop().time()
                    return chunk
                case Finish():
                    self._finish, self._reason = message, self._told(message)
                    if self._reason in (*BROKEN, FinishReason.BARRED) and self._counted.count == 0:
                        raise EngineFailed(f"the provider gave no token: {message.reason}", retry_after=1)
                case _:
                    raise WireError(f"a {type(message).__name__} is out of place here")
        except ProviderStalled as stalled:
            self._reason, self.stalled = FinishReason.FAILED, True
            _log.info("provider_stalled", provider=self._quote.provider.hex(), reason=stalled.message)
            if self._counted.count == 0:
                self.lost = True
                raise
        except PeerRefused as refused:
            if self._counted.count:
                self.lost, self._reason = True, FinishReason.FAILED
            else:  # it said why before it began, which breaks no word
                self._reason = FinishReason.CANCELLED
                wait = refused.retry_after or 1
                raise EngineFailed(f"the provider refused: {refused.message}", retry_after=wait) from refused
        except (MeshError, TokenizerError, TimeoutError) as error:
            left = self.overdue and isinstance(error, ConnectionLost)
            self.lost, self._reason = True, FinishReason.IDLE if left else FinishReason.FAILED
            if self._counted.count == 0:
                raise EngineFailed(f"the provider failed: {error or 'no word from it'}", retry_after=1) from error
        raise StopAsyncIteration

    async def _in_time(self) -> Message:
        """What comes next of the answer, within the bounds of the wait for it. Raises ``ProviderStalled``."""
        due = self._due if self._ids else min(self._due, self._first_due)
        try:
            async with asyncio.timeout_at(due) as waiting:
                message = await _next(self._reader, None if self._ids else self._patience_s)
                while isinstance(message, Working) and not self._ids:
                    message = await _next(self._reader, self._patience_s)
                return message
        except TimeoutError:
            if not waiting.expired():
                raise
        if self._ids:
            raise ProviderStalled(f"the answer was not complete after {SESSION_S / 60:g} minutes", retry_after=1)
        raise ProviderStalled(f"no first token within {self._first_s:g} s, only word that it is coming", retry_after=1)

    def _told(self, finish: Finish) -> FinishReason:
        """Why it says it ended; that nobody read on here it cannot say of its own accord."""
        reason = FinishReason(finish.reason)
        return FinishReason.FAILED if reason is FinishReason.IDLE and not self.overdue else reason

    def _checked(self, piece: Piece) -> Chunk:
        """Ids, bytes, count and hash agree. Raises ``WireError``."""
        if not piece.ids or self._checker.decode(piece.ids) != piece.text:
            raise WireError("the text of a piece is not what its tokens say")
        seen = shown(piece.text, self._stop)
        if not seen.whole:
            raise WireError("a piece ends within a character")
        self._ids += len(piece.ids)
        self._hash.update(piece.ids, piece.text)
        if (piece.count, piece.running_hash) != (self._ids, self._hash.digest()):
            raise WireError("count or running hash of a piece are wrong")
        if self._ids > self._quote.max_tokens:
            raise WireError("more tokens than were asked for")
        count = self._counted.feed(self._ids, piece.text)
        self._stopped = seen.stopped
        return Chunk(seen.text, piece.ids, count, raw=piece.text)


async def _next(reader: FrameReader, patience_s: float | None = None) -> Message:
    """The next message, in time. Raises ``PeerRefused`` for a refusal, ``ConnectionLost``, ``WireError``."""
    patience_s = IDLE_S if patience_s is None else patience_s
    try:
        async with asyncio.timeout(patience_s):
            message = await reader.read()
    except TimeoutError as error:
        raise ConnectionLost(f"no word from the provider for {patience_s:g} s") from error
    except StreamEnded as error:
        raise ConnectionLost("the provider ended the session") from error
    if isinstance(message, Refused):
        raise PeerRefused(message.message, refused=message.code, retry_after=message.retry_after_s or None)
    return message
