"""Where strangers get a place at an engine, and how long an offer keeps one."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from tirami.core.errors import EngineFailed
from tirami.core.keys import Digest, PublicKey
from tirami.infer import Engine
from tirami.ledger import Price
from tirami.net.session.counted import Canon

OFFER_S: Final = 3.0
"""Seconds an offer keeps its place; an acceptance that comes later is served where one is free then."""


@dataclass(frozen=True, slots=True)
class Terms:
    """At what price an engine serves now, and ``canon``, new for each session: its answer as the payer counts it."""

    engine: Engine
    price: Price
    canon: Canon
    known: bool = False
    """Whether its payer is no stranger: the whole window runs ahead of the vouchers."""


class Desk(Protocol):
    """Where a stranger gets a place at an engine."""

    def serve(self, model_digest: Digest, payer: PublicKey) -> AbstractAsyncContextManager[Terms]:
        """A place at the engine of this model. Raises ``AccessError``, ``ModelNotFound``, ``QueueFull``,
        ``EngineError``."""


class Place:
    """A place for one session: use as an async context manager, which raises what :meth:`Desk.serve` does."""

    def __init__(self, desk: Desk, model_digest: Digest, payer: PublicKey) -> None:
        self._desk = desk
        self._model_digest = model_digest
        self._payer = payer
        self._held = AsyncExitStack()
        self._given_way = False

    async def __aenter__(self) -> Self:
        self.terms = await self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.aclose()

    async def give_way(self) -> None:
        """Leave it to others: asking costs nothing, and who asks and does not accept must not keep everybody out."""
        self._given_way = True
        await self._held.aclose()

    async def keep(self) -> None:
        """Sure of it again, after it may have given way. Raises what :meth:`Desk.serve` does."""
        if self._given_way and (await self._take()).engine is not self.terms.engine:
            raise EngineFailed("the engine of this offer was unloaded before it was accepted", retry_after=1)

    async def _take(self) -> Terms:
        return await self._held.enter_async_context(self._desk.serve(self._model_digest, self._payer))
