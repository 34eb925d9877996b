"""Models that the configuration names and that could not be fetched: asked for again until they come."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from tirami.core.errors import ModelLoadError, TiramiError
from tirami.node.engines.pulls import Pull, Pulls, PullState

FIRST_PAUSE_S: Final = 15.0
LONGEST_PAUSE_S: Final = 240.0
"""Seconds between two tries; each pause is twice the one before, up to this. All are longer than a hub's silence is
remembered."""
Sleep = Callable[[float], Awaitable[None]]


class Provision:
    """Fetches what is missing for a node that started before its network did.

    Args:
        came: told of each model that is here now.
        sleep: waits so many seconds.
    """

    def __init__(self, pulls: Pulls, came: Callable[[str], None], sleep: Sleep = asyncio.sleep) -> None:
        self._pulls = pulls
        self._came = came
        self._sleep = sleep

    async def run(self, names: Iterable[str]) -> None:
        """Until each is here, was given up by somebody, or cannot be had by trying again."""
        missing, pause = [name for name in names if not _is_over(self._pulls.known.get(name))], FIRST_PAUSE_S
        while missing:
            await self._sleep(pause)
            left = [name for name in missing if not await self._settled(name)]
            pause = FIRST_PAUSE_S if len(left) < len(missing) else min(2 * pause, LONGEST_PAUSE_S)
            missing = left

    async def _settled(self, name: str) -> bool:
        pull = self._pulls.known.get(name)
        if pull is None or not _is_over(pull):
            pull = self._pulls.start(name)  # or the one that runs
            with suppress(TiramiError):
                await self._pulls.wait(pull)
        if pull.state is PullState.DONE:
            self._came(name)
        return _is_over(pull)


def _is_over(pull: Pull | None) -> bool:
    """Whether no further try is to be made: a wrong file would only be fetched again and again."""
    if pull is None or pull.state is PullState.RUNNING:
        return False
    return pull.given_up.is_set() or not isinstance(pull.error, ModelLoadError)
