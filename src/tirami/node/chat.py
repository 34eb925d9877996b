"""One paid answer on this node: who pays, gate, hold, execute, settle. The only way chat requests are served."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tirami.core.errors import EngineFailed, KillSwitchActive, TiramiError
from tirami.infer import Chunk, FinishReason, Message, ModelCard, Sampling
from tirami.ledger import LOCAL, Payer
from tirami.market import (
    STOPPING_S,
    InferenceMarket,
    Interrupted,
    Meter,
    MeteredSession,
    Order,
    Settlement,
)
from tirami.node.engines import EngineRoom

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat request whose payer is known.

    ``model`` ``None`` takes any, and so does ``any_name``, whatever is named.
    ``max_tokens`` ``None`` takes the default, ``seed`` ``None`` a random one (it stands in the signed quote).
    """

    payer: Payer
    model: str | None
    messages: Sequence[Message]
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    request_id: str
    any_name: bool = False
    ticket: bytes | None = None
    """Id of a reservation to use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, who gave it, and how it was settled."""

    card: ModelCard
    text: str
    settlement: Settlement


class Chat:
    """Serves chat calls on this node's engines through the market."""

    def __init__(self, market: InferenceMarket, engines: EngineRoom, random: Random, meter: Meter) -> None:
        self._market = market
        self._engines = engines
        self._random = random
        self._meter = meter

    async def answer(self, call: ChatCall) -> Answer:
        """The whole answer at once. Nothing is owed unless it is complete (cancel the call to give up).

        Raises ``SpendDenied`` (also ``KillSwitchActive`` when the switch was thrown meanwhile), ``RequestError``,
        ``EngineError``, ``QueueFull``, ``StorageUnavailable``.
        """
        async with AsyncExitStack() as stack:
            card, session = await self._begin(stack, call, streamed=False)
            text = "".join([chunk.text async for chunk in session])
            if session.interrupted is not None:
                raise _interruption(session.interrupted)
            session.deliver()
            settlement = await session.settle()
            if settlement.denied is not None and settlement.trade is None:
                raise settlement.denied
            return Answer(card, text, settlement)

    async def stream(self, call: ChatCall) -> "ChatStream":
        """Begin a streamed answer; errors up to the first token are raised here, before any byte is sent."""
        stack = AsyncExitStack()
        try:
            card, session = await self._begin(stack, call, streamed=True)
            first = await anext(session, None)
        except BaseException:
            await stack.aclose()
            raise
        if session.interrupted is not None:
            await stack.aclose()
            raise _interruption(session.interrupted)
        return ChatStream(card, stack, session, first)

    async def _begin(
        self, stack: AsyncExitStack, call: ChatCall, *, streamed: bool
    ) -> tuple[ModelCard, MeteredSession]:
        if call.ticket is None:
            self._market.check(call.payer)
        served = await stack.enter_async_context(self._engines.use(call.model, any_name=call.any_name))
        if call.ticket is not None:
            self._market.reservations.find(call.ticket, call.payer, served.engine.card.digest)
        place = served.room.place(call.payer.key, owner=call.payer.scope == LOCAL)
        self._meter.queued(served.engine.card.name, await stack.enter_async_context(place))
        prompt = await served.engine.prepare(call.messages)
        seed = int.from_bytes(self._random(4)) if call.seed is None else call.seed
        sampling = Sampling(
            max_tokens=call.max_tokens or 0,
            seed=seed,
            temperature=call.temperature,
            top_p=call.top_p,
            top_k=call.top_k,
        )
        order = Order(call.payer, served.engine, prompt, sampling, call.max_tokens, call.request_id, call.ticket)
        ticket = await self._market.begin_inference(order)
        session = self._market.execute(ticket, call.payer.key, streamed=streamed)
        try:
            return served.engine.card, await stack.enter_async_context(session)
        except Interrupted as error:
            assert session.interrupted is not None
            raise _interruption(session.interrupted) from error


def _interruption(reason: FinishReason) -> TiramiError:
    if reason is FinishReason.KILLED:
        return KillSwitchActive("all TRM transactions are frozen; this answer was not billed")
    return EngineFailed("this node is stopping; this answer was not billed", retry_after=STOPPING_S)


class ChatStream:
    """A running answer: iterate for chunks, then :meth:`settle`. ``aclose`` gives up and bills what was delivered."""

    def __init__(self, card: ModelCard, stack: AsyncExitStack, session: MeteredSession, first: Chunk | None) -> None:
        self.card = card
        self._stack = stack
        self._session = session
        self._first = first

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        if self._first is None:
            return
        yield self._first
        async for chunk in self._session:
            yield chunk

    async def hand_over(self, sending: Awaitable[None]) -> bool:
        """Await the sending of a chunk; ``False`` when the session was interrupted meanwhile."""
        try:
            await self._session.interruptible(sending)
        except Interrupted:
            return False
        return True

    async def settle(self) -> Settlement:
        """Book what was delivered; durable when it returns."""
        return await self._session.settle()

    async def aclose(self) -> None:
        await self._stack.aclose()


FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.KILLED: "killed",
    FinishReason.STOPPED: "node_stopped",
    FinishReason.CANCELLED: "cancelled",
    FinishReason.FAILED: "provider_failed",
}
"""Finish reasons as clients see them."""
