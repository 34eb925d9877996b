"""Copies of a running node's journal, laid down in its data directory for its operator to fetch.

Only journal and network file, and only there: keys never leave over HTTP, and no caller names a path.
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tirami.core.errors import Conflict
from tirami.core.uninterrupted import uninterrupted
from tirami.ledger import Ledger
from tirami.node.archive import JOURNAL
from tirami.node.home import NETWORK

PREFIX = "backup-"
FETCH_WITHIN_S = 600
"""After that a copy counts as forgotten and gives way to the next."""


class Staging:
    """At most one copy at a time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._busy = False

    def clear(self) -> None:
        """Remove every copy."""
        for left in self._home.glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    async def make(self, ledger: Ledger) -> Path:
        """A new directory with consistent copies; writing goes on meanwhile.

        Raises ``Conflict`` while another copy is made or waits to be fetched, ``StorageUnavailable``.
        """
        waiting = any(_age_s(path) < FETCH_WITHIN_S for path in self._home.glob(f"{PREFIX}*"))
        if self._busy or waiting:
            raise Conflict("another backup is being made", retry_after=60)
        self._busy = True
        try:
            return await uninterrupted(asyncio.to_thread(self._make, ledger))
        finally:
            self._busy = False

    def _make(self, ledger: Ledger) -> Path:
        self.clear()
        directory = self._home / f"{PREFIX}{secrets.token_hex(8)}"
        try:
            lay_down(ledger.copy_to, ledger.network.to_bytes(), directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory


def lay_down(copy_journal: Callable[[Path], None], network: bytes, directory: Path) -> None:
    """Make ``directory`` (0700) with a copy of the journal and the network file in it."""
    directory.mkdir(mode=0o700)
    copy_journal(directory / JOURNAL)
    (directory / NETWORK).write_bytes(network)


def _age_s(path: Path) -> float:
    """Infinite for one that was fetched meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
