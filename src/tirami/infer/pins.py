"""Digests learnt at a first download and held on to from then on."""

import secrets
from pathlib import Path

import msgspec

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.sources import Source


class Pins:
    """A JSON file of source → SHA-256. A file that cannot be understood is an error, never an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, source: Source) -> Digest | None:
        """The digest a file of ``source`` must have: catalogue's, else the pinned one. Raises ``ModelLoadError``."""
        if source.digest is not None:
            return source.digest
        pinned = self._read().get(str(source))
        try:
            return None if pinned is None else Digest(bytes.fromhex(pinned))
        except ValueError as error:
            raise ModelLoadError(f"{self._path} holds a digest for {source} that is none") from error

    def add(self, source: Source, digest: Digest) -> None:
        """Hold on to ``digest``; a source of the catalogue's own digest needs no pin."""
        pins = self._read()
        if source.digest is not None or str(source) in pins:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode({**pins, str(source): digest.hex()})))
        fresh.replace(self._path)

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise ModelLoadError(f"{self._path} cannot be read: {error}") from error
