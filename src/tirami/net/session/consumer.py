"""The payer's side of one session: ask, check the quote, check every piece, and only then sign (PROTOCOL B10–B12).

The provider is believed in nothing: ids are decoded and compared with the text that came, running hash and tokens are
counted here (``remote_answer``). What does not agree ends the session, and what was checked before is paid.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from tirami.core.errors import (
    EngineFailed,
    MeshError,
    WireError,
)
from tirami.core.keys import Digest, Signature, sha256
from tirami.core.uninterrupted import uninterrupted
from tirami.core.units import MICRO, TokenCount
from tirami.infer import FinishReason
from tirami.market.counterparts import Offered
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session.counted import Canon
from tirami.net.session.quoted import Wanted, card_of, checked_quote, wire_id
from tirami.net.session.remote_answer import BROKEN, RemoteAnswer, heard
from tirami.net.session.terms import IDLE_S, PROMPTLY_S, TO_CONSUMER, window
from tirami.net.transport import Stream
from tirami.proto import (
    Accept,
    Acceptance,
    Ask,
    Cancel,
    Cited,
    Message,
    Offer,
    Payment,
    Quote,
    RunningHash,
    Settled,
    Signed,
    SignedBody,
    session_secret,
)


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
        offer = await heard(reader, patience_s)
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
                while not isinstance(message := await heard(self._reader), Settled):
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
    async def _work(self, _: Acceptance, accepted: Signed) -> AsyncIterator[RemoteAnswer]:
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
