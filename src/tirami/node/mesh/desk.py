"""Where strangers get a place at this node's engines: behind its owner, at most so many at a time, or not at all."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from tirami.core.config import MeshConfig
from tirami.core.errors import AccessError, ModelNotFound, QueueFull
from tirami.core.keys import Digest, PublicKey
from tirami.core.units import Ppm
from tirami.infer import CountedBy, Engine, ModelCard
from tirami.ledger import Price
from tirami.market import Load
from tirami.net.session import Canon, Terms
from tirami.node.engines import EngineRoom
from tirami.proto import Offering, Signal
from tirami.proto.signals import MAX_MODELS

FEATURES = ("metered-sessions", "reconciliation", "signals", "tokenizer-blocks")
STEP = 20_000
"""Prices that are told follow the load in steps of 2 %: what moves less is no news, and a quote is what was told."""


class Judge(Protocol):
    """Who decides for the owner whom to serve."""

    @property
    def earns(self) -> bool:
        """Whether anybody is to be served."""

    def objection(self, payer: PublicKey) -> str | None:
        """Why this one is not; ``None`` for no reason."""


class EngineDesk:
    """A :class:`~tirami.net.session.Desk` over the engine room.

    Args:
        speed: completion tokens a second of one answer, as measured; ``None`` before that.
        canon: by digest of the tokenizer, new for each answer; ``None`` for what cannot be counted here, or not yet.
        guest: whether this payer came by invitation.
        killed: whether this node may promise nothing now: the kill switch is thrown, or its key has ended.
        paused: whether the operator wants nobody new.
        agent: judges who is served; ``None`` where the node has none.
    """

    def __init__(
        self,
        config: MeshConfig,
        engines: EngineRoom,
        load: Load,
        speed: Callable[[Engine], float | None],
        canon: Callable[[Digest], Canon | None],
        guest: Callable[[PublicKey], bool],
        killed: Callable[[], bool],
        paused: Callable[[], bool],
        agent: Judge | None = None,
    ) -> None:
        self._config = config
        self._engines = engines
        self._load = load
        self._speed = speed
        self._canon = canon
        self._told = load.factor
        """The factor in the prices that were told last."""
        self._guest = guest
        self._killed = killed
        self._paused = paused
        self._agent = agent
        self._strangers = 0
        """Strangers with a place, or about to have one: a quote keeps it, too."""
        self._coming = 0
        """Those of them that are not in the room yet."""

    @property
    def paused(self) -> bool:
        return self._paused()

    @property
    def open(self) -> bool:
        """Whether strangers are served at all now."""
        willing = self._agent is None or self._agent.earns
        return self._config.sell and willing and not self._paused() and not self._killed()

    @property
    def sellable(self) -> list[Engine]:
        """Engines in memory whose answers a payer can check (RULINGS: ids and tokenizer known)."""
        if not self.open:
            return []
        return [engine for engine in self._engines.loaded if engine.card.counted_by is CountedBy.ENGINE]

    @property
    def free_slots(self) -> int:
        """Answers for strangers that could begin now: what is free, but for one place that stays the owner's."""
        room = self._engines.room
        if self._config.idle_only and room.running > self._strangers - self._coming:
            return 0
        free = room.slots - room.running - room.waiting - self._coming - 1
        return max(0, min(free, self._config.slots - self._strangers))

    @asynccontextmanager
    async def serve(self, model_digest: Digest, payer: PublicKey) -> AsyncIterator[Terms]:
        """Raises ``AccessError``, ``ModelNotFound``, ``QueueFull``."""
        if self._agent is not None and (objection := self._agent.objection(payer)) is not None:
            raise AccessError(objection)
        found = next((engine for engine in self.sellable if engine.card.digest == model_digest), None)
        canon = self._canon(found.card.tokenizer_digest) if found is not None else None
        if found is None or canon is None:
            raise ModelNotFound("this model is not sold here now", param="model_digest")
        if self.free_slots < 1:
            raise QueueFull("every place for strangers is taken", retry_after=5)
        with self._one_more():
            async with self._engines.use(found.card.name, payer=payer) as served:
                if served.room.running + served.room.waiting >= served.room.slots - 1:
                    raise QueueFull("every place for strangers at this model is taken", retry_after=5)
                async with served.room.place(payer, owner=False):
                    self._coming -= 1
                    try:
                        yield Terms(served.engine, self._price(served.engine.card), canon, self._guest(payer))
                    finally:
                        self._coming += 1

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """A stranger more, on the way to a place or from it."""
        self._strangers += 1
        self._coming += 1
        try:
            yield
        finally:
            self._strangers -= 1
            self._coming -= 1

    def signal(self, network: str, node: PublicKey) -> Signal | None:
        """What this node offers now, undated; ``None`` for nothing. Only engines whose speed and tokens are known."""
        known = [engine for engine in self.sellable if self._canon(engine.card.tokenizer_digest) is not None]
        speeds = [(engine, speed) for engine in known if (speed := self._speed(engine))][:MAX_MODELS]
        if not speeds:
            return None
        slots = self.free_slots
        slowest = min(speed for _, speed in speeds)
        return Signal(
            network=network,
            node=node,
            demand_ppm=self._factor(),
            free_tokens=int(slots * slowest * 60),
            slots=slots,
            audit_tier=0,
            features=FEATURES,
            models=tuple(self._offering(engine.card) for engine, _ in speeds),
            lifetime_ms=1,
            at_ms=0,
        )

    def _factor(self) -> Ppm:
        if abs(self._load.factor - self._told) >= STEP:
            self._told = self._load.factor
        return self._told

    def _price(self, card: ModelCard) -> Price:
        return self._load.price(card.active_parameters, self._factor())

    def _offering(self, card: ModelCard) -> Offering:
        price = self._price(card)
        return Offering(
            name=card.name,
            model_digest=card.digest,
            tokenizer_digest=card.tokenizer_digest,
            context_length=card.context_length,
            parameters=card.parameters,
            active_parameters=card.active_parameters,
            layers=card.layers,
            hidden=card.hidden,
            quantization=card.quantization,
            price_in=price.prompt,
            price_out=price.completion,
        )
