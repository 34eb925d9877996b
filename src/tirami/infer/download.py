"""A model file being written: hashed while it grows, visible only when it is whole and right.

What is not whole yet lies beside its place as ``.NAME.part``. One that can be resumed has a note with it,
``.NAME.part.json``: of which version it is, how many bytes are durable, and their SHA-256. A process that goes on later
believes the note only if the bytes still hash to it.
"""

import fcntl
import hashlib
import hmac
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all; the second may be an estimate, the last call has both equal. What it raises
ends the download."""

BLOCK: Final = 1 << 20
CHECKPOINT_BYTES: Final = 32 << 20
"""A crash loses at most this much of a download."""
LOCK_POLL_S: Final = 0.2


class _Note(msgspec.Struct, frozen=True):
    version: str
    validator: str
    written: int
    sha256: str


class Download:
    """Use as a context manager: write blocks, then :meth:`keep`.

    Leaving without it leaves nothing, unless the download is resumable (:meth:`resume`). One process at a time writes
    a file; another one waits for it.

    Args:
        target: where the file shall be.
        size: bytes expected, for the progress bar; see :meth:`sized`.
        expected: SHA-256 the file must have, ``None`` to take what comes.
        progress: told about every block.
    """

    def __init__(self, target: Path, size: int, expected: Digest | None, progress: Progress | None) -> None:
        self._target = target
        self._size = size
        self._most: int | None = None
        self._expected = expected
        self._progress = progress
        self._partial = partial_path(target)
        self._note = note_path(target)
        self._version = ""
        self._hasher = hashlib.sha256()
        self._noted = 0
        self._shown = 0
        self._kept = self._touched = False
        self.written = 0
        """Bytes that lie in the partial file."""
        self.validator = ""
        """The strong entity tag under which the rest can be asked for."""
        self.waited = False
        """Whether another process was writing this file when this one came."""

    def __enter__(self) -> Self:
        self._file = self._locked()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._version and not self._kept:
                self._checkpoint()
        except OSError:
            self._version = ""  # without its note the partial file is worth nothing
        finally:
            if self._kept or (self._touched and not self.resumable) or not self._partial.stat().st_size:
                self._note.unlink(missing_ok=True)
                self._partial.unlink(missing_ok=True)
            self._file.close()

    @property
    def resumable(self) -> bool:
        """Whether leaving now keeps what was written for the next try."""
        return bool(self._version and self.written)

    def expect(self, digest: Digest) -> None:
        """Learn what the file must be before its end, unless that is known already."""
        self._expected = self._expected or digest

    def sized(self, size: int) -> None:
        """Learn the exact size. Raises ``ModelLoadError`` when the disk has no room for the rest."""
        self._size = self._most = size
        check_space(self._target, size - self.written)

    def resume(self, version: str) -> None:
        """Go on where an earlier process left ``version`` of this file; from now on, leaving early keeps the bytes.

        Args:
            version: names the content; another one starts over. Empty: there is no telling, so nothing is kept.
        """
        self._version = version or (self._expected.hex() if self._expected else "")
        try:
            note = msgspec.json.decode(self._note.read_bytes(), type=_Note)
        except (OSError, msgspec.MsgspecError):
            return self.restart()
        if not self._version or note.version != self._version or not self._take_up(note):
            self.restart()

    def restart(self) -> None:
        """Forget what was written."""
        self._touched = True
        self._note.unlink(missing_ok=True)
        self._file.seek(0)
        self._file.truncate()
        self._hasher = hashlib.sha256()
        self.written = self._noted = 0
        self.validator = ""

    def write(self, block: bytes) -> None:
        """Append. Raises ``ModelLoadError`` when the disk is full or the file is longer than it can be."""
        if self._most is not None and self.written + len(block) > self._most:
            self.restart()
            raise ModelLoadError(f"{self._target.name} is longer than the {self._most:,} bytes it was said to have")
        try:
            if not self._touched:  # what another way left here is of no use to one that does not resume
                os.truncate(self._partial, 0)
                self._touched = True
            self._file.write(block)
            self._hasher.update(block)
            self.written += len(block)
            if self._version and self.written - self._noted >= CHECKPOINT_BYTES:
                self._checkpoint()
        except OSError as error:
            raise ModelLoadError(f"cannot write {self._target.name}: {error.strerror}") from error
        self.report(self.written)

    def report(self, done: int) -> None:
        """Move the bar to ``done`` bytes; it never moves back."""
        self._shown = max(self._shown, min(done, self._size))
        if self._progress is not None:
            self._progress(self._shown, self._size)

    def keep(self) -> Digest:
        """Put the file in place, durably. Raises ``ModelDigestMismatch``: nothing is put or left anywhere then."""
        digest = Digest(self._hasher.digest())
        if self._expected is not None and not hmac.compare_digest(digest, self._expected):
            self._version = ""
            raise ModelDigestMismatch(
                f"{self._target.name} arrived with SHA-256 {digest.hex()}, not {self._expected.hex()}: refused",
                expected=self._expected.hex(),
                actual=digest.hex(),
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._target)
        self._kept = True
        if self._progress is not None:
            self._progress(self.written, self.written)
        return digest

    def _locked(self) -> BinaryIO:
        """The partial file, ours alone."""
        while True:
            file = self._partial.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(file, self._partial):
                    return file
                file.close()
            except BlockingIOError:
                file.close()
                self.waited = True
                self.report(0)
                time.sleep(LOCK_POLL_S)
            except BaseException:
                file.close()
                raise

    def _take_up(self, note: _Note) -> bool:
        """Hash the bytes of ``note`` and stand behind them; ``False`` when they are not what it says."""
        self._file.seek(0)
        hasher, left = hashlib.sha256(), note.written
        while left > 0:
            block = self._file.read(min(BLOCK, left))
            if not block:
                return False
            hasher.update(block)
            left -= len(block)
            self.report(note.written - left)
        if hasher.hexdigest() != note.sha256:
            return False
        self._file.seek(note.written)
        self._file.truncate()
        self._touched = True
        self._hasher, self.validator = hasher, note.validator
        self.written = self._noted = note.written
        return True

    def _checkpoint(self) -> None:
        """Make what is written durable, then say so: in this order."""
        self._file.flush()
        os.fsync(self._file.fileno())
        note = _Note(self._version, self.validator, self.written, self._hasher.hexdigest())
        fresh = self._note.with_name(f"{self._note.name}.new")
        fresh.write_bytes(msgspec.json.encode(note))
        fresh.replace(self._note)
        self._noted = self.written


def partial_path(target: Path) -> Path:
    """Where ``target`` grows."""
    return target.with_name(f".{target.name}.part")


def note_path(target: Path) -> Path:
    """What is known of the partial file of ``target``."""
    return target.with_name(f".{target.name}.part.json")


def check_space(target: Path, needed: int) -> None:
    """Raises ``ModelLoadError`` when fewer than ``needed`` bytes are free where ``target`` shall be."""
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise ModelLoadError(f"{target.name} needs {needed >> 20} MiB of disk, {free >> 20} are free")


def _same(file: BinaryIO, path: Path) -> bool:
    """Whether ``file`` still is what lies at ``path``: its last owner may have put it in place or thrown it away."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
