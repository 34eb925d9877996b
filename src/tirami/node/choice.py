"""One choice of a request: a metered session that begins when there is a place for it."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from types import TracebackType

from tirami.core.errors import EngineFailed, KillSwitchActive, TiramiError
from tirami.infer import Chunk, FinishReason
from tirami.market import STOPPING_S, InferenceMarket, Interrupted, MeteredSession, Settlement, Ticket


class Choice:
    """Iterate for chunks once begun.

    Attributes:
        index: of the choice among all of the request.
        prompt: index of the prompt it answers.
        ticket: who pays whom for it, and at what price.
    """

    def __init__(self, index: int, prompt: int, market: InferenceMarket, ticket: Ticket, *, streamed: bool) -> None:
        self.index = index
        self.prompt = prompt
        self._market = market
        self.ticket = ticket
        self._streamed = streamed
        self._session: MeteredSession | None = None
        self._first: Chunk | None = None
        self._asked = False
        """Whether :meth:`first` was."""
        self._unsettled: BaseException | None = None
        """What :meth:`settle` raised."""

    @property
    def bought(self) -> bool:
        """Whether a peer answers: then the payer signs for it as it comes."""
        return self.ticket.counterpart is not None

    @property
    def interrupted(self) -> FinishReason | None:
        return self._session.interrupted if self._session is not None else None

    async def begin(self, stack: AsyncExitStack) -> None:
        """Have ``stack`` leave the session; does nothing the second time.

        Raises ``SpendDenied``, ``EngineError``, ``Conflict``.
        """
        if self._session is not None:
            return
        session = self._market.execute(self.ticket, self.ticket.payer.key, streamed=self._streamed)
        try:
            await session.__aenter__()
        except Interrupted as error:
            assert session.interrupted is not None
            raise interruption(session.interrupted) from error
        self._session = session  # one that was not entered has nothing to settle
        stack.push_async_exit(self._leave)

    async def first(self) -> None:
        """Wait for the first chunk; iterating yields it again. Raises what the engine says instead.

        Does nothing the second time.
        """
        assert self._session is not None
        if self._asked:
            return
        self._asked = True
        self._first = await anext(self._session, None)
        if self._session.interrupted is not None:
            raise interruption(self._session.interrupted)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        assert self._session is not None
        if self._first is not None:
            yield self._first
        async for chunk in self._session:
            yield chunk

    async def hand_over(self, sending: Awaitable[None]) -> bool:
        """Await the sending of a chunk; ``False`` when the session was interrupted meanwhile."""
        assert self._session is not None
        try:
            await self._session.interruptible(sending)
        except Interrupted:
            return False
        return True

    def withhold(self, characters: int) -> None:
        """So much of the end of the chunks so far has not been sent: it is not delivered until it has."""
        assert self._session is not None
        self._session.withheld = characters

    def deliver(self) -> None:
        """The whole answer is handed over."""
        assert self._session is not None
        self._session.deliver()

    def break_off(self) -> None:
        """Nobody will ask for another chunk: it ends as one that failed, unless something else has ended it."""
        assert self._session is not None
        self._session.interrupt(FinishReason.FAILED)

    async def settle(self) -> Settlement | None:
        """Book what was delivered; durable when it returns. ``None`` when the choice never began."""
        if self._session is None:
            return None
        try:
            return await self._session.settle()
        except BaseException as error:
            self._unsettled = error
            raise

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the session. What :meth:`settle` told its caller is not raised again over the answers of others."""
        assert self._session is not None
        try:
            await self._session.__aexit__(kind, error, trace)
        except Exception as again:
            if again is not self._unsettled:
                raise


def interruption(reason: FinishReason) -> TiramiError:
    """What is told of an answer of which nothing was signed for."""
    if reason is FinishReason.KILLED:
        return KillSwitchActive("all TRM transactions are frozen; this answer was not billed")
    if reason is FinishReason.BARRED:
        barred = EngineFailed("a key of this session was convicted or has ended; this answer was not billed")
        barred.retry_after = None  # no waiting gives the key back
        return barred
    return EngineFailed("this node is stopping; this answer was not billed", retry_after=STOPPING_S)
