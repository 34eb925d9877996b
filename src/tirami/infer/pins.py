"""Digests learnt at a first download and held on to from then on."""

import re
import secrets
from pathlib import Path
from typing import Final

import msgspec

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.sources import Source

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Pins:
    """A JSON file of source → SHA-256. A file that cannot be understood is an error, never an empty one.

    It is read again only when it has changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, ...], dict[str, str]] | None = None
        """When, where and how large the file was that was read last, and what it said."""

    def get(self, source: Source) -> Digest | None:
        """The digest a file of ``source`` must have: catalogue's, else the pinned one. Raises ``ModelLoadError``."""
        if source.digest is not None:
            return source.digest
        pinned = self._read().get(str(source))
        if pinned is None:
            return None
        if not _SHA256.fullmatch(pinned):
            raise ModelLoadError(f"{self._path} holds a digest for {source} that is none")
        return Digest(bytes.fromhex(pinned))

    def add(self, source: Source, digest: Digest) -> None:
        """Hold on to ``digest``; a source of the catalogue's own digest needs no pin. Raises ``ModelLoadError``."""
        pins = self._read()
        if source.digest is not None or str(source) in pins:
            return
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode({**pins, str(source): digest.hex()})))
            fresh.replace(self._path)
        except OSError as error:
            raise ModelLoadError(f"{self._path} cannot be written: {error.strerror}") from error

    def _read(self) -> dict[str, str]:
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if self._known is None or self._known[0] != version:
                self._known = version, msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            return self._known[1]
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise ModelLoadError(f"{self._path} cannot be read: {error}") from error
