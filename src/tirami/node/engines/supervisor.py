"""An upstream that may be away: its engine is started once the server is there, and asked after while it is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tirami.core.errors import TiramiError
from tirami.infer import EngineStatus, UpstreamEngine

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
"""Seconds between two tries; each pause is twice the one before, up to this."""
Sleep = Callable[[float], Awaitable[None]]

_log = structlog.get_logger()


class UpstreamSupervisor:
    """Keeps one upstream's engine going, however long its server takes to come, or to come back.

    Args:
        adopt: told once of the engine when it has started; whoever is told closes it.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        engine: UpstreamEngine,
        adopt: Callable[[UpstreamEngine], Awaitable[None]],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._adopt = adopt
        self._sleep = sleep
        self._started = False
        self._well = True
        self.problem: str | None = None
        """Why the engine could not be started yet."""

    async def start(self) -> None:
        """Try once. Raises ``ModelLoadError``; ``Conflict`` while a model of this name is in use here."""
        try:
            await self._engine.start()
            try:
                await self._adopt(self._engine)
            except BaseException:
                await self._engine.close()
                raise
        except TiramiError as error:
            self.problem = error.message
            raise
        self._started, self.problem = True, None

    async def run(self) -> None:
        """Until cancelled: try again what does not work."""
        pause = FIRST_PAUSE_S
        while True:
            await self._sleep(pause)
            pause = FIRST_PAUSE_S if await self._works() else min(2 * pause, LONGEST_PAUSE_S)

    async def _works(self) -> bool:
        known = self.problem
        try:
            if not self._started:
                await self.start()
                _log.info("model_loaded", model=self._engine.card.name)
            elif not self._engine.status().ready:
                self._told(self._engine.status())
                await self._engine.check()
        except TiramiError as error:
            if self.problem != known:
                _log.warning("model_unavailable", code=error.code, reason=error.message)
            return False
        except Exception:
            _log.exception("upstream_check_failed")
            return False
        status = self._engine.status()
        self._told(status)
        return status.ready

    def _told(self, status: EngineStatus) -> None:
        """Log when it goes and when it comes back."""
        if status.ready and not self._well:
            _log.info("upstream_back")
        elif self._well and not status.ready:
            _log.warning("upstream_gone", reason=status.detail)
        self._well = status.ready
