"""The provider's side of all sessions: whom it gives a quote, which are open, what ends them.

However one ends (:mod:`~tirami.net.session.serving`), its last voucher becomes a trade.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import structlog

from tirami.core.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidProof,
    InvalidRequest,
    MeshError,
    QueueFull,
    TiramiError,
    WireError,
)
from tirami.core.keys import Digest, PublicKey, SigningKey
from tirami.core.shaping import MAX_TOP_K
from tirami.core.units import MICRO
from tirami.infer import FinishReason, Sampling, Shaping
from tirami.ledger import Admitted, Heads, Ledger
from tirami.ledger.receivables import Seen
from tirami.market import STOPPING_S
from tirami.market.quoting import Parties, quote
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session.desk import OFFER_S, Desk, Place, Terms
from tirami.net.session.meanwhile import meanwhile
from tirami.net.session.sale import Sale
from tirami.net.session.serving import Serving
from tirami.net.session.terms import IDLE_S, SESSION_S, TO_PROVIDER
from tirami.net.transport import Stream
from tirami.proto import (
    Accept,
    Ask,
    ModelFacts,
    Offer,
    Quote,
    Refused,
    Shown,
    SignedBody,
    prompt_hash,
    session_secret,
    signed,
)

_log = structlog.get_logger()
MOST_PER_PEER: Final = 4
"""Sessions one peer may have open, quotes included."""
LEAVING_S: Final = 5.0
"""Seconds that a node which stops gives its payers for their last vouchers."""
Booked = Callable[[Admitted], Awaitable[None]]


class Provider:
    """Serves sessions of other nodes' payers.

    Args:
        booked: told of every trade, once it is durable.
        seen: shown every acceptance that is about to be taken, and what contradicts one: whether it proves a fraud.
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
        seen: Seen = lambda _: False,
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
        self._running: set[Serving] = set()
        self._ended = asyncio.Event()
        """Set when one of them has."""
        self._stopping = False
        self.sold = 0
        """Sessions that became a trade."""
        self._asking: Counter[PublicKey] = Counter()
        ledger.on_kill(self._kill)
        ledger.on_barred(self._bar)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def claims(self) -> set[bytes]:
        """Ids of those that a running session will end."""
        return {serving.claim_id for serving in self._running}

    async def stop(self) -> None:
        """Sell nothing more, end what runs, and wait until what was signed for is settled, or ``LEAVING_S``."""
        self._stopping = True
        for serving in list(self._running):
            serving.stop(FinishReason.STOPPED)
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_S):
                while self._running:
                    self._ended.clear()
                    await self._ended.wait()

    async def serve(self, peer: PublicKey, stream: Stream, ask: Ask) -> None:
        """One session on a stream of its own, from its first message on. Raises nothing of the peer's making.

        The stream ends with it: what is left open counts against the streams that the payer may have here.
        """
        writer = FrameWriter(stream)
        try:
            with self._one_more(peer):
                async with asyncio.timeout(SESSION_S):
                    await self._serve(stream, writer, ask)
        except TiramiError as error:
            await _refuse(stream, writer, error)
        except TimeoutError:
            await stream.reset()
        else:
            await _end(stream)

    async def _serve(self, stream: Stream, writer: FrameWriter, ask: Ask) -> None:
        sampling = _sampling(ask)
        self._check_running()
        self._ledger.gate.check_open()
        async with Place(self._desk, Digest(ask.model_digest), PublicKey(ask.payer)) as place:
            serving = await self._offered(ask, place.terms, sampling)
            async with asyncio.timeout(IDLE_S):
                await writer.write(serving.offer)
            reader = FrameReader(stream, TO_PROVIDER)
            accept = await _accepted(serving.quote, reader, place)
            await place.keep()
            self._check_running()
            serving.open(accept, reader, writer, self._seen)
            admitted = await self._ran(serving)
            if admitted is not None:
                self.sold += 1
                await self._booked(admitted)

    async def _ran(self, serving: Serving) -> Admitted | None:
        """To its end, which is a trade if anything was signed for."""
        self._running.add(serving)
        try:
            try:
                await serving.run()
            finally:
                try:
                    admitted = await serving.settled()
                finally:  # a disk that refuses the trade undoes no sale: the claim is settled later
                    self._sold(serving.sale(PublicKey(serving.quote.payer)))
        finally:
            self._running.discard(serving)
            self._ended.set()
        return admitted

    def _check_running(self) -> None:
        if self._stopping:
            raise EngineFailed("this node is stopping", retry_after=STOPPING_S)

    async def _offered(self, ask: Ask, terms: Terms, sampling: Sampling) -> "Serving":
        engine, price, card = terms.engine, terms.price, terms.engine.card
        if price.prompt > ask.max_price_in or price.completion > ask.max_price_out:
            raise InvalidRequest("dearer than asked for", param="max_price_out", price_out=price.completion)
        if len(ask.prompt) + sampling.max_tokens > card.context_length:
            raise ContextLengthExceeded(f"the model's context is {card.context_length} tokens", param="max_tokens")
        prompt = await engine.prepare_text(ask.prompt, sampling.shaping.schema)
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
        self._ledger.gate.check_open()  # again: to get a place may have taken long
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
        return Serving(self._ledger, self._random(16), record, offer, secret, terms, generate)

    @contextmanager
    def _one_more(self, peer: PublicKey) -> Iterator[None]:
        """A quote keeps a place at the engine for a while: no peer keeps them all. Raises ``QueueFull``."""
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

    def _bar(self, key: bytes) -> None:
        for serving in list(self._running):
            if serving.quote.payer == key:
                serving.bar()


def _sampling(ask: Ask) -> Sampling:
    """How the payer wants it drawn. Raises ``InvalidRequest``."""
    drawn = ask.max_tokens > 0 and ask.temperature_ppm <= 2 * MICRO and ask.top_p_ppm <= MICRO
    if not drawn or ask.top_k > MAX_TOP_K or ask.seed >= 1 << 32:
        raise InvalidRequest("the sampling is out of range", param="sampling")
    try:
        shaping = msgspec.json.decode(ask.shaping, type=Shaping) if ask.shaping else Shaping()
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"not what shapes an answer: {error}", param="shaping") from error
    if shaping.canonical() != ask.shaping:
        raise InvalidRequest("what shapes the answer is not in its canonical form", param="shaping")
    shaping.check()
    return Sampling(
        max_tokens=ask.max_tokens,
        seed=ask.seed,
        temperature=ask.temperature_ppm / MICRO,
        top_p=ask.top_p_ppm / MICRO,
        top_k=ask.top_k,
        shaping=shaping,
    )


async def _accepted(quote: Quote, reader: FrameReader, place: Place) -> Accept:
    """The payer's acceptance of a quote that was sent just now.

    Raises ``InvalidProof`` when the quote ends first: it lasts so long from here on, by this node's own clock.
    """
    try:
        async with asyncio.timeout(quote.lifetime_ms / 1000):
            accept = await meanwhile(reader.read(), OFFER_S, place.give_way)
    except TimeoutError:
        raise InvalidProof("the quote has expired", param="quote_hash") from None
    if not isinstance(accept, Accept):
        raise WireError(f"an Accept follows an Offer, not a {type(accept).__name__}")
    return accept


async def _refuse(stream: Stream, writer: FrameWriter, error: TiramiError) -> None:
    """Tell the payer why, if it still listens."""
    _log.info("session_refused", code=error.code, reason=error.message)
    with suppress(MeshError, TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await writer.write(Refused(error.code, error.message[:1024], error.retry_after or 0))
    await _end(stream)


async def _end(stream: Stream) -> None:
    """After the last word, which still arrives; a stream that cannot be finished any more is reset."""
    try:
        await stream.finish()
    except MeshError:
        await stream.reset()
