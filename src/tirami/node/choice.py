"""One choice of a request: a metered session that begins when there is a place for it."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack

from tirami.core.errors import EngineFailed, KillSwitchActive, TiramiError
from tirami.infer import Chunk, FinishReason
from tirami.market import STOPPING_S, InferenceMarket, Interrupted, MeteredSession, Settlement, Ticket


class Choice:
    """Iterate for chunks once begun.

    Attributes:
        index: of the choice among all of the request.
        prompt: index of the prompt it answers.
    """

    def __init__(self, index: int, prompt: int, market: InferenceMarket, ticket: Ticket, *, streamed: bool) -> None:
        self.index = index
        self.prompt = prompt
        self._market = market
        self._ticket = ticket
        self._streamed = streamed
        self._session: MeteredSession | None = None
        self._first: Chunk | None = None

    @property
    def interrupted(self) -> FinishReason | None:
        return self._session.interrupted if self._session is not None else None

    async def begin(self, stack: AsyncExitStack) -> None:
        """Have ``stack`` leave the session; does nothing the second time.

        Raises ``SpendDenied``, ``EngineError``, ``Conflict``.
        """
        if self._session is not None:
            return
        session = self._session = self._market.execute(self._ticket, self._ticket.payer.key, streamed=self._streamed)
        try:
            await stack.enter_async_context(session)
        except Interrupted as error:
            assert session.interrupted is not None
            raise interruption(session.interrupted) from error

    async def first(self) -> None:
        """Wait for the first chunk; iterating yields it again. Raises what the engine says instead."""
        assert self._session is not None
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

    def deliver(self) -> None:
        """The whole answer is handed over."""
        assert self._session is not None
        self._session.deliver()

    async def settle(self) -> Settlement | None:
        """Book what was delivered; durable when it returns. ``None`` when the choice never began."""
        return None if self._session is None else await self._session.settle()


def interruption(reason: FinishReason) -> TiramiError:
    if reason is FinishReason.KILLED:
        return KillSwitchActive("all TRM transactions are frozen; this answer was not billed")
    return EngineFailed("this node is stopping; this answer was not billed", retry_after=STOPPING_S)
