"""Downloads of models that a running node makes: one a model, watched from anywhere, given up when told to."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from tirami.core.errors import EngineFailed, ModelLoadError, TiramiError
from tirami.infer import LocalModel, Progress

_log = structlog.get_logger()

Fetch = Callable[[str, Progress | None], LocalModel]
"""Blocking; told the model's name and whom to tell of the bytes."""


class PullState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Pull:
    """One download: ``done`` of ``total`` bytes (0 before the first)."""

    state: PullState = PullState.RUNNING
    done: int = 0
    total: int = 0
    error: TiramiError | None = None
    given_up: threading.Event = field(default_factory=threading.Event)
    task: "asyncio.Task[None] | None" = None


class Pulls:
    """The downloads of a node. The last one of each model is remembered; names are bounded by the catalogue."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._pulls: dict[str, Pull] = {}
        self._stopping = False

    @property
    def known(self) -> Mapping[str, Pull]:
        """The last download of each model, by name."""
        return self._pulls

    def running(self, name: str) -> bool:
        pull = self._pulls.get(name)
        return pull is not None and pull.state is PullState.RUNNING

    def start(self, name: str, progress: Progress | None = None) -> Pull:
        """Begin a download, or join the one that runs; a failure is kept in the result.

        Raises ``EngineFailed`` when the node stops.
        """
        if self._stopping:
            raise EngineFailed("this node is stopping")
        if self.running(name):
            return self._pulls[name]
        pull = self._pulls[name] = Pull()
        pull.task = asyncio.create_task(self._run(name, pull, progress), name=f"pull of {name}")
        return pull

    async def wait(self, pull: Pull) -> None:
        """Until a download has ended. Raises its error."""
        assert pull.task is not None
        await asyncio.shield(pull.task)
        if pull.error is not None:
            raise pull.error

    async def stop(self, name: str) -> None:
        """Give a download up and wait for its end; harmless when there is none."""
        if self.running(name):
            pull = self._pulls[name]
            pull.given_up.set()
            assert pull.task is not None
            await asyncio.wait([pull.task])

    async def close(self) -> None:
        """Give every download up."""
        self._stopping = True
        for name in tuple(self._pulls):
            await self.stop(name)

    async def _run(self, name: str, pull: Pull, progress: Progress | None) -> None:
        def watched(done: int, total: int) -> None:
            if pull.given_up.is_set():
                raise ModelLoadError(f"the download of {name} was stopped")
            pull.done, pull.total = done, total
            if progress is not None:
                progress(done, total)

        try:
            await asyncio.to_thread(self._fetch, name, watched)
            pull.state = PullState.DONE
        except TiramiError as error:
            pull.error, pull.state = error, PullState.FAILED
            _log.warning("pull_failed", model=name, code=error.code, reason=error.message)
        except BaseException as error:
            pull.given_up.set()
            pull.error, pull.state = ModelLoadError(f"the download of {name} failed"), PullState.FAILED
            if isinstance(error, Exception):
                _log.exception("pull_failed", model=name)
            else:
                raise
