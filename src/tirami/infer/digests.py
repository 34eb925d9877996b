"""SHA-256 of model files, remembered beside the models.

A note is believed only for the very file it was made of: same size, modification time in nanoseconds, and
inode.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest

BLOCK: Final = 1 << 20


class _Note(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int
    sha256: str


class DigestBook:
    """Digests of files, kept in ``directory``; one that cannot be written only costs hashing again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def digest(self, path: Path) -> Digest:
        """SHA-256 of the whole file, from a note if one fits. Raises ``ModelLoadError`` for an unreadable file."""
        try:
            stat = path.stat()
            if known := self._recall(path, stat):
                return known
            digest = file_digest(path)
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise ModelLoadError(f"cannot load {path.name}: {reason}", reason=reason) from error
        self.note(path, digest, stat)
        return digest

    def note(self, path: Path, digest: Digest, stat: os.stat_result | None = None) -> None:
        """Remember the digest of a file just written, or of the state ``stat`` of it."""
        stat = stat or path.stat()
        note = _Note(stat.st_size, stat.st_mtime_ns, stat.st_ino, digest.hex())
        target = self._place(path)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            fresh = target.with_suffix(f".{secrets.token_hex(4)}")
            fresh.write_bytes(msgspec.json.encode(note))
            fresh.replace(target)
        except OSError:
            return

    def _recall(self, path: Path, stat: os.stat_result) -> Digest | None:
        try:
            note = msgspec.json.decode(self._place(path).read_bytes(), type=_Note)
            digest = bytes.fromhex(note.sha256)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None
        same = (note.size, note.mtime_ns, note.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return Digest(digest) if same and len(digest) == 32 else None

    def _place(self, path: Path) -> Path:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
        return self._directory / f"{name}.json"


def file_digest(path: Path, limit: int | None = None) -> Digest:
    """SHA-256 of the first ``limit`` bytes of a file, of all when ``None``."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        left = limit
        while block := file.read(BLOCK if left is None else min(BLOCK, left)):
            hasher.update(block)
            left = None if left is None else left - len(block)
    return Digest(hasher.digest())
