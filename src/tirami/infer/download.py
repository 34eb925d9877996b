"""A model file being written: hashed while it grows, visible only when it is whole and right."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all; the second may be an estimate, the last call has both equal."""


class Download:
    """Use as a context manager: write blocks, then :meth:`keep`; leaving without it leaves no file.

    Args:
        target: where the file shall be.
        size: bytes expected, for the progress bar only.
        expected: SHA-256 the file must have, ``None`` to take what comes.
        progress: told about every block.
    """

    def __init__(self, target: Path, size: int, expected: Digest | None, progress: Progress | None) -> None:
        self._target = target
        self._size = size
        self._expected = expected
        self._progress = progress
        self._partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        self._hasher = hashlib.sha256()
        self._written = 0
        self._shown = 0

    def __enter__(self) -> Self:
        self._file = self._partial.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def expect(self, digest: Digest) -> None:
        """Learn what the file must be before its end, unless that is known already."""
        self._expected = self._expected or digest

    def write(self, block: bytes) -> None:
        """Append. Raises ``ModelLoadError`` when the disk is full."""
        try:
            self._file.write(block)
        except OSError as error:
            raise ModelLoadError(f"cannot write {self._target.name}: {error.strerror}") from error
        self._hasher.update(block)
        self._written += len(block)
        self.report(self._written)

    def report(self, done: int) -> None:
        """Move the bar to ``done`` bytes; it never moves back."""
        self._shown = max(self._shown, min(done, self._size))
        if self._progress is not None:
            self._progress(self._shown, self._size)

    def keep(self) -> Digest:
        """Put the file in place, durably. Raises ``ModelDigestMismatch``: nothing is put anywhere then."""
        digest = Digest(self._hasher.digest())
        if self._expected is not None and not hmac.compare_digest(digest, self._expected):
            raise ModelDigestMismatch(
                f"{self._target.name} arrived with SHA-256 {digest.hex()}, not {self._expected.hex()}: refused",
                expected=self._expected.hex(),
                actual=digest.hex(),
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._target)
        if self._progress is not None:
            self._progress(self._written, self._written)
        return digest
