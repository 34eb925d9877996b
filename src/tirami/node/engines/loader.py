"""From a name to an engine: what the configuration says of models, and what is installed."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import ModelLoadError, ModelNotFound
from tirami.infer import (
    ChildEngine,
    DigestBook,
    Header,
    LocalModel,
    ModelCard,
    Progress,
    UpstreamEngine,
    default_models_dir,
    installed,
    memory_bytes,
    read_card,
    resolve,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine that is not started yet, and the bytes of memory it is going to take."""

    engine: ChildEngine
    cost: int

    def measured(self) -> int:
        """Bytes it takes indeed, at most so far; 0 before it runs."""
        return self.engine.memory_bytes()


class Loader:
    """Names, files and engines of one node. It starts nothing and fetches only when told to."""

    def __init__(self, config: Config, clock: Clock) -> None:
        infer = config.infer
        self._infer = infer
        self._clock = clock
        self.models_dir = Path(infer.models_dir) if infer.models_dir else default_models_dir()
        self.pins = config.data_dir / "pins.json"
        further = [word.strip() for word in infer.models.split(",") if word.strip()]
        self._asked_for = {name_of(word): word for word in (infer.model, *further) if word}
        self.primary = "" if infer.upstream_url or not infer.model else name_of(infer.model)
        """The model of a request that names none; an upstream's name is known when it has told it."""
        self.further = tuple(name_of(word) for word in further)
        """Models that the configuration names beside it."""

    @property
    def offline(self) -> bool:
        return self._infer.offline

    def installed(self) -> dict[str, Path]:
        """Files that can be loaded, by name. Looks into one directory."""
        found = installed(self.models_dir)
        for name, word in self._asked_for.items():
            if word.endswith(".gguf") and (path := Path(word).expanduser()).is_file():
                found[name] = path
        return found

    def fetch(self, name: str, progress: Progress | None) -> LocalModel:
        """The file of a model, fetched when it must be. Blocking, for minutes."""
        word = self._asked_for.get(name, name)
        return resolve(word, self.models_dir, offline=self._infer.offline, progress=progress, pins=self.pins)

    async def plan(self, name: str) -> Plan:
        """An engine for an installed model. Raises ``ModelNotFound``, ``ModelLoadError``, ``ModelDigestMismatch``."""
        return await asyncio.to_thread(self._plan, name)

    def describe(self, name: str) -> ModelCard:
        """The card of an installed model, as it would be served. Blocking; raises as :meth:`plan`."""
        return self._described(self._local(name))

    def upstream(self) -> UpstreamEngine:
        """The engine behind ``infer.upstream_url``."""
        infer = self._infer
        return UpstreamEngine(
            infer.upstream_url,
            infer.upstream_model,
            api_key=infer.upstream_api_key,
            parameters=infer.upstream_parameters,
            active_parameters=infer.upstream_active_parameters,
            context=infer.upstream_context,
            slots=infer.slots,
            clock=self._clock,
        )

    def _local(self, name: str) -> LocalModel:
        """A request downloads nothing, and names a model, never a path."""
        if name not in self.installed():
            raise ModelNotFound(f"the model {name!r} is not installed", param="model")
        return resolve(self._asked_for.get(name, name), self.models_dir, offline=True, pins=self.pins)

    def _described(self, model: LocalModel) -> ModelCard:
        return read_card(model.path, model.name, self._infer.context, digests=DigestBook(self.models_dir / "digests"))

    def _plan(self, name: str) -> Plan:
        infer, model = self._infer, self._local(name)
        header = Header.read(model.path)
        context = min(infer.context, header.number("context_length") or infer.context)
        cost = memory_bytes(header, model.path.stat().st_size, slots=infer.slots, context=context)
        engine = ChildEngine(
            model.path,
            name=model.name,
            slots=infer.slots,
            context=infer.context,
            threads=infer.threads,
            digest=model.digest,
            models_dir=self.models_dir,
            start_timeout_s=infer.start_timeout_s,
            memory_limit_bytes=infer.memory_limit_mib << 20,
            binary=_llama_server() if infer.engine == "llama-server" else None,
        )
        return Plan(engine, cost)


def name_of(word: str) -> str:
    """What clients call a model that the configuration names by alias or path."""
    return Path(word).stem if word.endswith(".gguf") else word


def _llama_server() -> Path:
    """Raises ``ModelLoadError``."""
    found = shutil.which("llama-server")
    if found is None:
        raise ModelLoadError("infer.engine is llama-server, but there is none on PATH")
    return Path(found)
