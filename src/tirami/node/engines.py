"""The engine of a node: chosen by configuration, started, and its absence explained."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import ModelLoadError, ModelNotFound, NoModel, TiramiError
from tirami.infer import ChildEngine, Engine, LocalModel, UpstreamEngine, default_models_dir, resolve
from tirami.market import WaitingRoom

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while a model is fetched."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Served:
    """A model in use: its engine, and the waiting room before it."""

    engine: Engine
    room: WaitingRoom


class EngineRoom:
    """Holds at most one engine; a node without one answers everything but inference."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self.room = WaitingRoom(config.infer.slots, config.infer.queue, clock)
        self._engine: Engine | None = None
        self.problem: str | None = "no model is configured"
        """Why there is no engine."""
        self.loading = False
        """Whether there will be one soon."""

    @property
    def engine(self) -> Engine | None:
        return self._engine

    @property
    def ready(self) -> bool:
        return self._engine is not None and self._engine.status().ready

    async def start(self, progress: Progress | None = None) -> None:
        """Fetch and load the configured model. A failure is kept in :attr:`problem`; the node runs without."""
        infer = self._config.infer
        if not infer.model and not infer.upstream_url:
            return
        self.problem, self.loading = "the model is being loaded", True
        try:
            engine = await self._build(progress)
            await engine.start()
        except TiramiError as error:
            self.problem = error.message
            _log.warning("model_unavailable", code=error.code, reason=error.message)
            return
        finally:
            self.loading = False
        self.serve(engine)

    def serve(self, engine: Engine) -> None:
        """Put a started engine to work; :meth:`close` will close it."""
        self._engine, self.problem = engine, None

    @asynccontextmanager
    async def use(self, model: str | None, *, any_name: bool = False) -> AsyncIterator[Served]:
        """Keep the engine that serves ``model`` in use (any, when not named, or with ``any_name``).

        Raises ``NoModel``, ``ModelNotFound``.
        """
        yield Served(self.find(model, any_name=any_name), self.room)

    def find(self, model: str | None, *, any_name: bool = False) -> Engine:
        """The engine that serves ``model`` (any, when not named, or with ``any_name``).

        Raises ``NoModel``, ``ModelNotFound``.
        """
        if self._engine is None:
            raise NoModel(f"this node serves no model: {self.problem}", retry_after=30)
        if model is not None and model != self._engine.card.name and not any_name:
            raise ModelNotFound(f"this node serves {self._engine.card.name!r}, not {model!r}", param="model")
        return self._engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()

    async def _build(self, progress: Progress | None) -> Engine:
        infer = self._config.infer
        if infer.upstream_url:
            return UpstreamEngine(
                infer.upstream_url,
                infer.upstream_model,
                api_key=infer.upstream_api_key,
                parameters=infer.upstream_parameters,
                active_parameters=infer.upstream_active_parameters,
                slots=infer.slots,
                clock=self._clock,
            )
        models = Path(infer.models_dir) if infer.models_dir else default_models_dir()
        model = await self._resolved(models, progress)
        return ChildEngine(
            model.path,
            name=model.name,
            slots=infer.slots,
            context=infer.context,
            threads=infer.threads,
            digest=model.digest,
            models_dir=models,
            start_timeout_s=infer.start_timeout_s,
            memory_limit_bytes=infer.memory_limit_mib << 20,
            binary=_llama_server() if infer.engine == "llama-server" else None,
        )

    async def _resolved(self, models: Path, progress: Progress | None) -> LocalModel:
        """The model's file, fetched when it must be; a node that stops meanwhile does not wait for the rest."""
        infer, given_up = self._config.infer, threading.Event()

        def watched(done: int, total: int) -> None:
            if given_up.is_set():
                raise ModelLoadError("the node is stopping")
            if progress is not None:
                progress(done, total)

        pins = self._config.data_dir / "pins.json"
        try:
            return await asyncio.to_thread(
                resolve, infer.model, models, offline=infer.offline, progress=watched, pins=pins
            )
        except asyncio.CancelledError:
            given_up.set()
            raise


def _llama_server() -> Path:
    """Raises ``ModelLoadError``."""
    found = shutil.which("llama-server")
    if found is None:
        raise ModelLoadError("infer.engine is llama-server, but there is none on PATH")
    return Path(found)
