"""The tasks of a running mesh, each under its part's name: one that ends before it is told to is never silent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog

from tirami.node.alerts import Alert

_log = structlog.get_logger()
FAILED: Final = "mesh_part_failed"
"""Code of the alert."""
Work = Callable[[], Awaitable[None]]
"""Runs one part until cancelled."""


@asynccontextmanager
async def running(works: Mapping[str, Work], alarms: dict[str, Alert]) -> AsyncIterator[None]:
    """Run all ``works`` until left. One that fails, or merely ends, is logged and named in ``alarms``; the rest go on.

    Args:
        works: by the name of the part.
        alarms: what the operator is told, by code.
    """
    ended: list[str] = []
    leaving = False

    async def watched(part: str, work: Work) -> None:
        failure: Exception | None = None
        try:
            await work()
        except Exception as error:
            failure = error
        if leaving and failure is None:
            return
        _log.error("mesh_part_ended", part=part, exc_info=failure)
        ended.append(part)
        alarms[FAILED] = Alert(
            FAILED, f"a part of the mesh has stopped: {', '.join(ended)}; the log says why, a restart brings it back"
        )

    tasks = [asyncio.create_task(watched(part, work), name=f"mesh-{part}") for part, work in works.items()]
    try:
        yield
    finally:
        leaving = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
