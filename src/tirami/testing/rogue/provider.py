"""A provider that cheats: another quote, other pieces, another settlement, or silence."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Final

import msgspec
import structlog

from tirami.core.clock import APART_MS
from tirami.core.keys import SigningKey
from tirami.core.units import TokenCount
from tirami.infer import Chunk, Engine, FinishReason, Generation, Reading
from tirami.ledger import Admitted, Ledger
from tirami.ledger.countersigner import countersigned
from tirami.ledger.receivables import Receivables, Seen
from tirami.net.frames import FrameReader, FrameWriter
from tirami.net.session import Terms, provider
from tirami.net.session.serving import Serving
from tirami.net.transport import Stream
from tirami.proto import (
    Accept,
    Message,
    Offer,
    Payment,
    Piece,
    Quote,
    Settled,
    SignedBody,
    Voucher,
    decode,
)
from tirami.testing.rogue.lies import HONEST, Turns, bent, resigned

_log = structlog.get_logger()
TRUE_PIECES: Final = 4
"""Of an answer, before the first lie."""
LATE_MS: Final = 2 * APART_MS
change = msgspec.structs.replace

QUOTES: Final[Mapping[str, Callable[[Quote], dict[str, Any]]]] = {
    "price": lambda quote: {"price_out": 2 * quote.price_out},
    "model": lambda _: {"model_digest": bytes(32)},
    "prompt": lambda quote: {"prompt_tokens": quote.prompt_tokens + 4},
    "template": lambda _: {"prompt_hash": bytes(32)},
    "longer": lambda quote: {"max_tokens": 4 * quote.max_tokens},
    "expired": lambda quote: {"at_ms": quote.at_ms - LATE_MS},
}
PIECES: Final[Mapping[str, Callable[[Piece], Piece]]] = {
    "count": lambda piece: change(piece, count=piece.count + 1),
    "text": lambda piece: change(piece, text=piece.text + b" (buy our other products)"),
    "ids": lambda piece: change(piece, ids=piece.ids * 2, count=piece.count + len(piece.ids)),
    "hash": lambda piece: change(piece, running_hash=bytes(32)),
}
SIGNATURES: Final = frozenset({"quote-forged", "quote-bent", "trade-forged", "trade-bent"})
SILENT: Final = {"stall": 0, "fade": TRUE_PIECES + 1}
"""From which piece on."""
RETOLD: Final = frozenset({"split", "greedy"})
SETTLING: Final = frozenset({"never", "late", "older"})
CHEATS: Final = frozenset({HONEST, "audited", *QUOTES, *PIECES, *SIGNATURES, *SILENT, *RETOLD, *SETTLING})


def lie(turns: Turns, key: SigningKey) -> None:
    """From now on, in every session this process sells."""
    _Lying.turns, _Lying.key = turns, key
    provider.FrameWriter = _Lying  # type: ignore[attr-defined]
    provider.Serving = _Dishonest  # type: ignore[attr-defined]
    settle = Receivables.settle

    async def withheld(self: Receivables, claim_id: bytes, reason: str, unpaid: int = 0) -> Admitted | None:
        return None if claim_id in _Dishonest.kept else await settle(self, claim_id, reason, unpaid)

    Receivables.settle = withheld  # type: ignore[method-assign]


class _Lying(FrameWriter):
    """Says something else than the node would: one cheat a session."""

    turns: ClassVar[Turns]
    key: ClassVar[SigningKey]

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.cheat = self.turns.next()
        self._pieces = 0

    async def write(self, message: Message) -> None:
        said = self._said(message)
        if said is not message:
            claimed = said.count if isinstance(said, Piece) else 0
            _log.warning("cheating", cheat=self.cheat, piece=self._pieces, claimed=claimed)
        if said is not None:
            await super().write(said)

    def _said(self, message: Message) -> Message | None:
        match message:
            case Offer():
                return self._quoted(message)
            case Piece():
                self._pieces += 1
                if self._pieces > TRUE_PIECES and self.cheat in PIECES:
                    return PIECES[self.cheat](message)
            case Settled() if self.cheat == "trade-forged":
                return change(message, signature=SigningKey.generate().sign(message.record_id))
            case Settled() if self.cheat == "trade-bent":
                return change(message, signature=bent(message.signature))
        return None if self.cheat in SILENT and self._pieces >= SILENT[self.cheat] else message

    def _quoted(self, offer: Offer) -> Offer:
        own = offer.quote
        if self.cheat in QUOTES:
            told = QUOTES[self.cheat](decode(Quote, own.body))
            return change(offer, quote=resigned(Quote, own.body, self.key, **told))
        if self.cheat == "quote-forged":
            return change(offer, quote=resigned(Quote, own.body, SigningKey.generate()))
        if self.cheat == "quote-bent":
            return change(offer, quote=SignedBody(own.body, bent(own.signature)))
        return offer


class _Dishonest(Serving):
    """A session that tells its answer otherwise, or settles otherwise."""

    kept: ClassVar[set[bytes]] = set()
    """Claims that are not settled as long as this process lives."""

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
        super().__init__(ledger, claim_id, record, offer, secret, terms, generate)
        self._engine = terms.engine
        self._secret = secret
        self._cheat = HONEST
        self._oldest: SignedBody | None = None

    def open(self, accept: Accept, reader: FrameReader, writer: FrameWriter, seen: Seen) -> None:
        super().open(accept, reader, writer, seen)
        assert isinstance(writer, _Lying)
        self._cheat = writer.cheat
        if self._cheat == "split":
            self._generate = _retold(self._generate, lambda chunks: _split(chunks, self._engine, self.quote.max_tokens))
        elif self._cheat == "greedy":
            self._generate = _retold(self._generate, _greedy)
            self._most = TokenCount(1 << 31)
        elif self._cheat == "never":
            self.kept.add(self.claim_id)
        elif self._cheat == "audited":
            _log.warning("audited", secret=self._secret.hex(), quote=self.offer.quote.body.hex())

    async def settled(self) -> Admitted | None:
        if self._cheat == "late":
            return None  # what tidies up after sessions will
        if self._cheat == "older" and self._oldest is not None:
            under = self._ledger.state.claims.open[self.claim_id].opened
            first = Voucher(self._oldest.body, self._oldest.signature, under.acceptance, under.acceptance_signature)
            await self._ledger.book_record(countersigned(first, _Lying.key))[1]
        return await super().settled()

    async def _within_window(self, due: int) -> None:
        if self._cheat not in RETOLD | SILENT.keys():
            await super()._within_window(due)

    async def _take(self, payment: Payment) -> None:
        await super()._take(payment)
        self._oldest = self._oldest or payment.trade


Retelling = Callable[[AsyncIterator[Chunk]], AsyncIterator[Chunk]]


class _Retold:
    """A :class:`~tirami.infer.Generation` of other chunks."""

    def __init__(self, honest: Generation, retelling: Retelling) -> None:
        self._honest = honest
        self._retelling = retelling

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._retelling(aiter(self._honest))

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._honest.finish_reason

    def end(self, reason: FinishReason) -> None:
        self._honest.end(reason)

    def reading(self) -> Reading:
        return self._honest.reading()


@asynccontextmanager
async def _retold(
    generate: AbstractAsyncContextManager[Generation], retelling: Retelling
) -> AsyncGenerator[Generation, None]:
    async with generate as honest:
        yield _Retold(honest, retelling)


async def _split(chunks: AsyncIterator[Chunk], engine: Engine, most: int) -> AsyncGenerator[Chunk, None]:
    """Every character in tokens of its own, as far as so many tokens go."""
    claimed = 0
    async for chunk in chunks:
        ids = [number for letter in chunk.text for number in (await engine.prepare_text(letter)).tokens]
        if claimed + len(ids) > most:
            return
        claimed += len(ids)
        _log.warning("splitting", made=chunk.count, claimed=claimed)
        yield Chunk(chunk.text, tuple(ids), TokenCount(claimed))


async def _greedy(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """The last piece again and again."""
    last: Chunk | None = None
    async for chunk in chunks:
        yield chunk
        last = chunk
    while last is not None:
        last = Chunk(last.text, last.ids, TokenCount(last.count + len(last.ids)))
        yield last
