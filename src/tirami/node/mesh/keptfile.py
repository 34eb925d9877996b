"""Files beside the journal that may be lost: read at the start, written when what they hold has changed."""

from pathlib import Path
from threading import Lock
from typing import Protocol

import structlog

from tirami.core.errors import KeyFileError
from tirami.core.secretfile import read_secret, replace_secret

_log = structlog.get_logger()


class Content(Protocol):
    """What such a file holds; ``changes`` rises with whatever is worth writing."""

    changes: int

    def to_bytes(self) -> bytes:
        """All of it."""

    def restore(self, data: bytes) -> None:
        """What an earlier run wrote, as far as it makes sense."""


class KeptFile:
    """One of them: 0600, always the old content or the new. What goes wrong is logged, and is no failure.

    Args:
        most: bytes; a larger file is not read.
    """

    def __init__(self, path: Path, content: Content, most: int) -> None:
        self._path = path
        self._content = content
        self._most = most
        self._saved = 0
        self._writing = Lock()
        """The last write of a node that stops is not overtaken by one that still runs in its thread."""

    def load(self) -> None:
        try:
            if self._path.exists():
                self._content.restore(read_secret(self._path, self._most))
        except KeyFileError as error:
            _log.warning("file_unread", file=self._path.name, reason=error.message)
        self._saved = self._content.changes

    def save(self) -> None:
        """What has changed since."""
        with self._writing:
            changes = self._content.changes
            if changes == self._saved:
                return
            try:
                replace_secret(self._path, self._content.to_bytes())
                self._saved = changes
            except OSError as error:
                _log.warning("file_unsaved", file=self._path.name, reason=str(error))
