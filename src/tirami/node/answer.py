"""The running choices of one request, and the whole answer they make together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tirami.core.errors import TiramiError
from tirami.infer import Chunk, FinishReason, ModelCard
from tirami.market import Settlement, Ticket, WaitingRoom
from tirami.node.choice import Choice, interruption

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Everything a request got at once: of each choice what was read, its settlement, and which prompt it answers.

    ``ticket`` is the first choice's: who pays whom, and at what price.

    A choice without a settlement could not be booked; like one its payer could not sign for, it reads as nothing.
    """

    card: ModelCard
    ticket: Ticket
    told: list[T]
    settlements: list[Settlement | None]
    prompts: list[int]


def written(chunks: Sequence[Chunk]) -> str:
    """The text of a choice."""
    return "".join([chunk.text for chunk in chunks])


class ChatStream:
    """Running choices: :meth:`run`, then :meth:`settle_all`. ``aclose`` gives up and bills what was delivered."""

    def __init__(
        self, card: ModelCard, stack: AsyncExitStack, choices: list[Choice], room: WaitingRoom | None, payer: bytes
    ) -> None:
        self.card = card
        self.choices = choices
        self._stack = stack
        self._room = room
        self._payer = payer

    @property
    def ticket(self) -> Ticket:
        """Of the first choice: who pays whom, and at what price."""
        return self.choices[0].ticket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """The first choice's chunks, for whoever asked for one."""
        async for chunk in self.choices[0]:
            yield chunk

    async def run(self, consume: Callable[[Choice], Awaitable[None]]) -> None:
        """Begin each choice and have it consumed, as many at once as there are places; the first error ends all."""
        waiting = deque(self.choices)

        async def work() -> None:
            while waiting:
                choice = waiting.popleft()
                await choice.begin(self._stack)
                await consume(choice)

        if self._room is None or len(self.choices) == 1:
            await work()
            return
        with self._room.spare(self._payer, len(self.choices) - 1) as spare:
            await _side_by_side([work() for _ in range(1 + spare)])

    async def whole(self, read: Callable[[Sequence[Chunk]], T]) -> Answer[T]:
        """Run, read, deliver and settle everything; what cannot be read is not billed.

        An answer of this node's own is owed when it is complete, and whoever is told of an error owes nothing. One
        bought of a peer is paid as it comes: it raises only where nothing was signed for, and else ends where it
        broke off, with the reason in its settlement.
        """
        chunks: list[list[Chunk]] = [[] for _ in self.choices]

        async def collect(choice: Choice) -> None:
            async for chunk in choice:
                chunks[choice.index].append(chunk)

        try:
            await self.run(collect)
        except TiramiError:
            if not self._bought:
                raise
            self.choices[0].break_off()
        for choice in self.choices:
            if choice.interrupted is not None and not choice.bought:
                raise interruption(choice.interrupted)
        told = [read(pieces) for pieces in chunks]
        for choice in self.choices:
            choice.deliver()
        outcomes = await asyncio.gather(*(choice.settle() for choice in self.choices), return_exceptions=True)
        settled = [None if isinstance(outcome, BaseException) else outcome for outcome in outcomes]
        for index, outcome in enumerate(outcomes):
            unpaid = _unpaid(outcome)
            if unpaid is None:
                continue
            if not any(settlement.bill for settlement in settled if settlement is not None):
                raise unpaid
            told[index] = read(())  # not paid, not given
        return Answer(self.card, self.ticket, told, settled, [choice.prompt for choice in self.choices])

    async def settle(self) -> Settlement:
        """:meth:`settle_all` for whoever asked for one choice."""
        settlement = (await self.settle_all())[0]
        assert settlement is not None
        return settlement

    async def settle_all(self) -> list[Settlement | None]:
        """Book what was delivered; durable when it returns. ``None`` for a choice that never began."""
        return list(await asyncio.gather(*(choice.settle() for choice in self.choices)))

    async def aclose(self) -> None:
        await self._stack.aclose()

    @property
    def _bought(self) -> bool:
        return self.choices[0].bought


def _unpaid(outcome: Settlement | BaseException | None) -> BaseException | None:
    """Why nothing was signed for of what was delivered, where something should have been."""
    if outcome is None or isinstance(outcome, BaseException):
        return outcome
    return outcome.denied if outcome.bill is None else None


async def _side_by_side(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(work, name="choices") for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.KILLED: "killed",
    FinishReason.STOPPED: "node_stopped",
    FinishReason.CANCELLED: "cancelled",
    FinishReason.FAILED: "provider_failed",
    FinishReason.UNCHECKABLE: "uncheckable",
    FinishReason.BARRED: "key_barred",
    FinishReason.IDLE: "idle_timeout",
}
"""Finish reasons as clients see them."""
