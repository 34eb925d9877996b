"""The engine room of a node: every model it can serve, by name."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import structlog

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import EngineFailed, ModelDigestMismatch, ModelLoadError, ModelNotFound, NoModel, TiramiError
from tirami.infer import CATALOGUE, Engine, ModelCard, Progress, UpstreamEngine
from tirami.node.engines.budget import budget_bytes
from tirami.node.engines.loader import Loader
from tirami.node.engines.pool import Occupancy, Pool, Served
from tirami.node.engines.provision import Provision
from tirami.node.engines.pulls import Pulls
from tirami.node.engines.supervisor import Sleep, UpstreamSupervisor

RETRY_AFTER_S = 30
RESTART_S = 5
NAMED_AT_MOST = 8
DESCRIBING_S = 1.0
"""How long a list waits for files that are being hashed."""
_Stamp = tuple[Path, int, int]
_log = structlog.get_logger()


class EngineRoom:
    """Lends engines. A node without one answers everything but inference.

    A request may name any model that is loaded, installed or configured; one that is not in memory is loaded for it,
    and nothing is ever downloaded for a request.
    """

    def __init__(self, config: Config, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        """``sleep`` waits between two looks at an upstream, and between two tries to fetch a model."""
        infer = config.infer
        self.loader = Loader(config, clock)
        self._upstream = UpstreamSupervisor(self.loader.upstream(), self._adopt, sleep) if infer.upstream_url else None
        self.pulls = Pulls(self.loader.fetch)
        self._provision = Provision(self.pulls, self._came, sleep)
        self._background: list[asyncio.Task[None]] = []
        self.pool = Pool(
            slots=infer.slots,
            queue=infer.queue,
            budget=budget_bytes(infer.memory_budget_mib),
            clock=clock,
            plan=self.loader.plan,
        )
        self._primary = self.loader.primary
        self._problem: str | None = "no model is configured"
        self._described: dict[str, tuple[_Stamp, asyncio.Task[ModelCard | TiramiError]]] = {}
        self.loading = False
        """Whether it is on its way."""

    @property
    def room(self) -> Occupancy:
        """How busy the node's engines are, all together."""
        return self.pool.occupancy

    @property
    def engine(self) -> Engine | None:
        """The engine of a request that names no model, if it is in memory."""
        name = self._primary if self._primary in self.pool.places else self.pool.latest()
        place = self.pool.places.get(name or "")
        return place.engine if place else None

    @property
    def loaded(self) -> list[Engine]:
        """Every engine in memory, the one of requests that name no model first."""
        first = self.engine
        engines = [place.engine for place in self.pool.places.values() if place.engine is not None]
        return sorted(engines, key=lambda engine: engine is not first)

    @property
    def problem(self) -> str | None:
        """Why the model of a request that names none cannot be had, as far as that is known."""
        place, failure = self.pool.places.get(self._primary), self.pool.failure(self._primary)
        if place is not None and place.engine is not None:
            return None
        if self._upstream is not None and self._upstream.problem is not None:
            return self._upstream.problem
        if self.pulls.running(self._primary) and not self.loading:
            return "the model is being fetched"
        return failure.message if failure else self._problem

    @property
    def ready(self) -> bool:
        return any(place.engine is not None and place.engine.status().ready for place in self.pool.places.values())

    def retry(self) -> None:
        """Begin to load the configured model again, where its last load failed; nothing happens in its backoff.

        Whoever only sells is asked for it by nobody: what is not in memory is not on offer.
        """
        if self._primary and self.pool.failure(self._primary) is not None:
            with suppress(TiramiError):  # told by :attr:`problem`
                self.pool.load(self._primary)

    async def start(self, progress: Progress | None = None) -> None:
        """Fetch and load the configured model. A failure is kept in :attr:`problem`; the node runs without.

        An upstream is then looked after until :meth:`stop`: it may come later, go, and come back.

        Then the further models of the configuration are fetched, where they are missing; they load when asked for.
        What could not be fetched is asked for again until :meth:`stop`; the configured model is loaded when it comes.
        """
        upstream = self._upstream
        if upstream or self._primary:
            self._problem, self.loading = "the model is being loaded", True
            try:
                await (upstream.start() if upstream else self._start_primary(progress))
                self._problem = None
            except TiramiError as error:
                self._problem = error.message
                _log.warning("model_unavailable", code=error.code, reason=error.message)
            finally:
                self.loading = False
        if upstream:
            self._background.append(asyncio.create_task(upstream.run(), name="upstream"))
        if not self.loader.offline:
            further = set(self.loader.further) - self.loader.installed().keys()
            for name in further:
                self.pulls.start(name)
            missing = further | ({self.loader.primary} - {""} - self.loader.installed().keys())
            self._background.append(asyncio.create_task(self._provision.run(missing), name="provision"))

    def serve(self, engine: Engine) -> None:
        """Put a started engine to work, for whoever names it or no model; :meth:`close` will close it."""
        self.pool.adopt(engine)
        self._primary, self._problem = engine.card.name, None

    @asynccontextmanager
    async def use(
        self, model: str | None, *, any_name: bool = False, payer: bytes = b"", owner: bool = False
    ) -> AsyncIterator[Served]:
        """Keep the engine that serves ``model`` in use (any, when not named, or with ``any_name`` and unknown).

        ``payer`` and ``owner`` say who waits, should it have to be loaded.

        Raises ``NoModel``, ``ModelNotFound``, ``ModelLoadError``, ``QueueFull``, and ``EngineFailed`` while its engine
        is away: nobody is admitted to what cannot answer.
        """
        name = self._chosen(model, any_name=any_name)
        async with AsyncExitStack() as stack:
            with _told_as_asked(model, name):
                served = await stack.enter_async_context(self.pool.use(name, payer, owner=owner))
            _check_ready(served.engine)
            yield served

    async def card(self, model: str | None, *, any_name: bool = False) -> ModelCard:
        """What :meth:`use` would serve, as far as that can be known without loading it; nothing changes.

        Raises ``NoModel``, ``ModelNotFound``, ``ModelLoadError``, and ``EngineFailed`` while its engine is away.
        """
        name = self._chosen(model, any_name=any_name)
        place = self.pool.places.get(name)
        if place is not None and place.engine is not None:
            _check_ready(place.engine)
            return place.engine.card
        with _told_as_asked(model, name):
            self.pool.check_backoff(name)
            found = await self.description(name)
            if found is None:
                raise ModelNotFound(f"the model {name!r} is not installed", param="model")
            if isinstance(found, TiramiError):
                raise found
            return found

    def knows(self, name: str) -> bool:
        """Whether a request may name this model."""
        return name in self.pool.places or name in self.loader.installed()

    def answers(self, model: str | None, *, any_name: bool = False) -> bool:
        """Whether :meth:`use` has, or will soon have, a model for this; what it names none for may have to be loaded.

        A model on its way counts: whoever is asked meanwhile is told to come again.
        """
        coming = (model is None or any_name) and self.loading
        return coming or self._meant(model, any_name=any_name) is not None

    def crowded(self, model: str | None, *, any_name: bool = False) -> ModelCard | None:
        """The model :meth:`use` would serve, where it is in memory and whoever comes now would wait for a place."""
        place = self.pool.places.get(self._meant(model, any_name=any_name) or "")
        return place.engine.card if place is not None and place.engine is not None and not place.room.free else None

    async def described(self) -> Mapping[str, ModelCard | TiramiError]:
        """The card of every model that is loaded or installed, or why it has none; loaded ones first.

        A file that nobody has hashed yet takes its time, once: what is not known within ``DESCRIBING_S`` is left out.
        """
        cards: dict[str, ModelCard | TiramiError] = {}
        for name, place in sorted(self.pool.places.items(), key=lambda entry: entry[0] != self._primary):
            if place.engine is not None:
                cards[name] = place.engine.card
        found = {name: self._description(name, path) for name, path in self.loader.installed().items()}
        unknown = [task for name, task in found.items() if name not in cards and not task.done()]
        if unknown:
            await asyncio.wait(unknown, timeout=DESCRIBING_S)
        return cards | {name: task.result() for name, task in found.items() if name not in cards and task.done()}

    async def description(self, name: str) -> ModelCard | TiramiError | None:
        """As :meth:`described`, of one model, however long its file takes; ``None`` when it is not here."""
        place, path = self.pool.places.get(name), self.loader.installed().get(name)
        if place is not None and place.engine is not None:
            return place.engine.card
        return None if path is None else await asyncio.shield(self._description(name, path))

    async def stop(self) -> None:
        """Fetch and load nothing more; what is loaded goes on."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.pulls.close()
        await self.pool.stop_loading()

    async def close(self) -> None:
        await self.stop()
        for _, reading in self._described.values():
            reading.cancel()
        await self.pool.close()

    def _description(self, name: str, path: Path) -> "asyncio.Task[ModelCard | TiramiError]":
        """The one reading of this file as it is now, under way or done."""
        stamp = _stamp(path)
        known = self._described.get(name)
        if known is None or known[0] != stamp or _broke_off(known[1]):
            reading = asyncio.create_task(self._read(name), name=f"description of {name}")
            known = self._described[name] = (stamp, reading)
        return known[1]

    async def _read(self, name: str) -> ModelCard | TiramiError:
        try:
            return await asyncio.to_thread(self.loader.describe, name)
        except TiramiError as error:
            return error

    def _meant(self, model: str | None, *, any_name: bool) -> str | None:
        """Which model of this node serves it; ``None`` where none is here."""
        if model is not None and self.knows(model):
            return model
        return self._default() if model is None or any_name else None

    def _chosen(self, model: str | None, *, any_name: bool) -> str:
        if (name := self._meant(model, any_name=any_name)) is not None:
            return name
        if model is None or any_name:
            raise NoModel(f"this node serves no model: {self.problem}", retry_after=RETRY_AFTER_S)
        away = self._upstream is not None and self._upstream.problem is not None  # nobody knows yet what it serves
        none = self._default() is None and (self.loading or not self.loader.installed())
        if self.pulls.running(model) or away or none:
            problem = "it is being fetched" if self.pulls.running(model) else self.problem
            raise NoModel(f"this node does not serve {model!r} now: {problem}", retry_after=RETRY_AFTER_S)
        names = sorted({*self.pool.places, *self.loader.installed()})
        shown = ", ".join(names[:NAMED_AT_MOST]) + (" …" if len(names) > NAMED_AT_MOST else "")
        hint = f"; it can be had with: tirami models pull {model}" if model in CATALOGUE else ""
        raise ModelNotFound(f"this node has no model {model!r}, it has {shown}{hint}", param="model")

    def _default(self) -> str | None:
        """The model of a request that names none: the configured one, else the one used last."""
        if self._primary in self.pool.places:
            return self._primary
        if self._primary and not self.loading and self.knows(self._primary):
            return self._primary
        return self.pool.latest()

    async def _adopt(self, upstream: UpstreamEngine) -> None:
        """In the place of a model of the same name that was loaded while it was away. Raises ``Conflict``."""
        async with self.pool.withdrawn(upstream.card.name):
            self.serve(upstream)

    def _came(self, name: str) -> None:
        """A model that was missing at the start is here."""
        if name == self._primary:
            self._problem = None
            with suppress(TiramiError):  # told by :attr:`problem`
                self.pool.load(name)

    async def _start_primary(self, progress: Progress | None) -> None:
        pull = self.pulls.start(self._primary, progress)
        try:
            await self.pulls.wait(pull)
        except asyncio.CancelledError:
            pull.given_up.set()
            raise
        async with self.pool.use(self._primary):
            pass


def _stamp(path: Path) -> _Stamp:
    """Which file, and which version of it; zeros for one that cannot be looked at."""
    try:
        stat = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, stat.st_size, stat.st_mtime_ns


def _check_ready(engine: Engine) -> None:
    """Raises ``EngineFailed`` while a child starts again or an upstream is away."""
    if not (status := engine.status()).ready:
        raise EngineFailed(f"{engine.card.name} is not ready: {status.detail}", retry_after=RESTART_S)


def _broke_off(task: "asyncio.Task[ModelCard | TiramiError]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


@contextmanager
def _told_as_asked(model: str | None, name: str) -> Iterator[None]:
    """Who did not name the model that cannot be had is told that none is served."""
    try:
        yield
    except (ModelNotFound, ModelLoadError, ModelDigestMismatch) as error:
        if model == name:
            raise
        raise NoModel(f"this node serves no model: {error.message}", retry_after=error.retry_after) from error
