"""What a node does by itself while it runs: watch the book, follow the load, end stale sessions, publish heads."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import StorageUnavailable
from tirami.ledger import Heads, Ledger, PriceObserved
from tirami.market import InferenceMarket
from tirami.node.alerts import Alert

_log = structlog.get_logger()

LOAD_EVERY_S = 1
HOLDS_EVERY_S = 10
WATCH_EVERY_S = 60


class Room(Protocol):
    """Where requests run and wait: one model's waiting room, or all of them together."""

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def slots(self) -> int: ...


class Upkeep:
    """The node's one background task."""

    def __init__(
        self,
        ledger: Ledger,
        heads: Heads,
        market: InferenceMarket,
        room: Room,
        clock: Clock,
        alerts: Callable[[], Sequence[Alert]] = tuple,
        claims: Callable[[], Collection[bytes]] = tuple,
    ) -> None:
        """``claims``: ids of those that running sessions of strangers will end."""
        self._ledger = ledger
        self._heads = heads
        self._market = market
        self._room = room
        self._clock = clock
        self._alerts = alerts
        self._claims = claims
        self._alerted: set[str] = set()

    async def run(self) -> None:
        """Until cancelled. A job that fails is logged and comes again; none stops the others."""
        every = {
            self._follow_load: LOAD_EVERY_S,
            self._expire_holds: HOLDS_EVERY_S,
            self._expire_claims: HOLDS_EVERY_S,
            self._watch: WATCH_EVERY_S,
        }
        due = dict.fromkeys(every, 0.0)
        while True:
            now = self._clock.monotonic()
            for job, at in due.items():
                if now >= at:
                    due[job] = now + every[job]
                    try:
                        await job()
                    except StorageUnavailable as error:
                        _log.warning("upkeep_delayed", job=job.__name__, reason=error.message)
                    except Exception:
                        _log.exception("upkeep_failed", job=job.__name__)
            await asyncio.sleep(LOAD_EVERY_S)

    async def _follow_load(self) -> None:
        self._market.load.observe(self._room.running, self._room.waiting, self._room.slots, self._ledger.now())

    async def _expire_holds(self) -> None:
        if expired := await self._ledger.payables.expire_holds(self._market.live):
            _log.warning("holds_expired", count=expired)

    async def _expire_claims(self) -> None:
        if expired := await self._ledger.receivables.expire_claims(self._claims()):
            _log.warning("claims_expired", count=expired)

    async def _watch(self) -> None:
        self._alert()
        self._ledger.check_balance()
        await self._ledger.record_facts(PriceObserved(self._market.load.demand))
        await self._heads.current()

    def _alert(self) -> None:
        """Say once what begins to need an operator, and once that it is over."""
        now = {alert.code: alert for alert in self._alerts()}
        for code in now.keys() - self._alerted:
            _log.warning(code, reason=now[code].message)
        for code in self._alerted - now.keys():
            _log.info(f"{code}_over")
        self._alerted = set(now)
