"""An answer as it arrives from another node: each piece is checked before it is handed on (PROTOCOL B10, B12)."""

import asyncio
from collections.abc import Sequence
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
from tirami.core.units import Flop, TokenCount
from tirami.infer import Chunk, CountedBy, FinishReason, ModelCard, Reading, flop, shown
from tirami.net.frames import FrameReader
from tirami.net.session.counted import Canon, Counted
from tirami.net.session.terms import FIRST_S, IDLE_S, READ_S, SESSION_S
from tirami.proto import Finish, Message, Piece, Quote, Refused, RunningHash, Working

_log = structlog.get_logger()
BROKEN = (FinishReason.FAILED, FinishReason.KILLED, FinishReason.STOPPED)
"""How a provider may end an answer without having kept it."""


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
                message = await heard(self._reader, None if self._ids else self._patience_s)
                while isinstance(message, Working) and not self._ids:
                    message = await heard(self._reader, self._patience_s)
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


async def heard(reader: FrameReader, patience_s: float | None = None) -> Message:
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
