"""How fast this node's engines are: what their answers showed, and before the first of them a short try of our own."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import TiramiError
from tirami.core.keys import PublicKey
from tirami.infer import Engine, Sampling
from tirami.node.engines import EngineRoom
from tirami.node.meter import NodeMeter

_log = structlog.get_logger()
LOOK_S = 0.5
AGAIN_S = 30.0
"""After a try that showed nothing."""
TRY_S = 60.0
TRY_TOKENS = 16
TRY_PROMPT = "Once upon a time"


class Pace:
    """Measured speeds of engines.

    Args:
        meter: told of every answer; a try counts as one, for nobody and unbilled.
        node: in whose name a place is taken.
    """

    def __init__(self, engines: EngineRoom, meter: NodeMeter, node: PublicKey, clock: Clock) -> None:
        self._engines = engines
        self._meter = meter
        self._node = node
        self._clock = clock
        self._tried: dict[str, float] = {}

    def speed(self, engine: Engine) -> float | None:
        """Completion tokens a second of one answer, smoothed; ``None`` before anything was measured."""
        return self._meter.speed(engine.card.name)

    async def run(self, sellable: Callable[[], Sequence[Engine]]) -> None:
        """Until cancelled: try what is for sale and was never used."""
        while True:
            for engine in sellable():
                if self.speed(engine) is None and self._due(engine):
                    await self._try(engine)
            await asyncio.sleep(LOOK_S)

    def _due(self, engine: Engine) -> bool:
        last = self._tried.get(engine.card.name)
        rested = last is None or self._clock.monotonic() - last >= AGAIN_S
        room = self._engines.room
        return rested and engine.status().ready and room.running + room.waiting < room.slots

    async def _try(self, engine: Engine) -> None:
        name = engine.card.name
        self._tried[name] = self._clock.monotonic()
        try:
            async with asyncio.timeout(TRY_S), self._engines.use(name, payer=self._node) as served:
                async with served.room.place(self._node, owner=False):
                    prompt = await served.engine.prepare_text(TRY_PROMPT)
                    how = Sampling(max_tokens=TRY_TOKENS, seed=0, temperature=0.0)
                    async with served.engine.generate(prompt, how) as generation:
                        async for _ in generation:
                            pass
            self._meter.made(name, generation.reading())
            _log.info("engine_measured", model=name, tokens_per_second=self._meter.speed(name))
        except (TiramiError, TimeoutError) as error:
            _log.warning("engine_not_measured", model=name, reason=str(error))
