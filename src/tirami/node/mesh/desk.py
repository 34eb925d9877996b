"""Where strangers get a place at this node's engines: behind its owner, at most so many at a time, or not at all."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tirami.core.config import MeshConfig
from tirami.core.errors import ModelNotFound, QueueFull
from tirami.core.keys import Digest, PublicKey
from tirami.infer import CountedBy, Engine, ModelCard
from tirami.market import Load
from tirami.net.session import Terms
from tirami.node.engines import EngineRoom
from tirami.proto import Offering, Signal

FEATURES = ("metered-sessions", "reconciliation", "signals", "tokenizer-blocks")
DEFAULT_SPEED = 20
"""Completion tokens a second an engine is thought to make before anything was measured."""


class EngineDesk:
    """A :class:`~tirami.net.session.Desk` over the engine room.

    Args:
        busy: strangers being served now.
        killed: whether the kill switch is thrown.
        paused: whether the operator wants nobody new.
    """

    def __init__(
        self,
        config: MeshConfig,
        engines: EngineRoom,
        load: Load,
        busy: Callable[[], int],
        killed: Callable[[], bool],
        paused: Callable[[], bool],
    ) -> None:
        self._config = config
        self._engines = engines
        self._load = load
        self._busy = busy
        self._killed = killed
        self._paused = paused

    @property
    def paused(self) -> bool:
        return self._paused()

    @property
    def open(self) -> bool:
        """Whether strangers are served at all now."""
        return self._config.sell and not self._paused() and not self._killed()

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
        if self._config.idle_only and room.running > self._busy():
            return 0
        free = room.slots - room.running - room.waiting - 1
        return max(0, min(free, self._config.slots - self._busy()))

    @asynccontextmanager
    async def serve(self, model_digest: Digest, payer: PublicKey) -> AsyncIterator[Terms]:
        """Raises ``ModelNotFound``, ``QueueFull``."""
        found = next((engine for engine in self.sellable if engine.card.digest == model_digest), None)
        if found is None:
            raise ModelNotFound("this model is not sold here now", param="model_digest")
        if self.free_slots < 1:
            raise QueueFull("every place for strangers is taken", retry_after=5)
        async with self._engines.use(found.card.name, payer=payer) as served:
            async with served.room.place(payer, owner=False):
                yield Terms(served.engine, self._load.price(served.engine.card.active_parameters))

    def signal(self, network: str, node: PublicKey) -> Signal | None:
        """What this node offers now, undated; ``None`` for nothing."""
        engines = self.sellable
        if not engines:
            return None
        slots = self.free_slots
        return Signal(
            network=network,
            node=node,
            demand_ppm=self._load.factor,
            free_tokens=slots * DEFAULT_SPEED * 60,
            slots=slots,
            audit_tier=0,
            features=FEATURES,
            models=tuple(self._offering(engine.card) for engine in engines[:64]),
            lifetime_ms=1,
            at_ms=0,
        )

    def _offering(self, card: ModelCard) -> Offering:
        price = self._load.price(card.active_parameters)
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
