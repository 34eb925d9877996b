"""The data directory: who owns it, what lies in it, and the one process that may use it."""

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Self

import msgspec

from tirami.core.errors import DataDirLocked
from tirami.core.secretfile import read_secret, write_secret

TRIES, PAUSE_S = 3, 0.02


class Home:
    """The data directory of one node, locked for this process until :meth:`close`.

    Files: ``node.key`` and ``admin.token`` (secrets, 0600), ``journal.db``, ``journal.tip`` and ``journal.snapshot``,
    ``node.json`` (pid and URL of the running node), ``lock``.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Create the directory when missing and lock it. Raises ``DataDirLocked`` naming the other process."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock)
        except OSError as error:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise DataDirLocked(f"{path} is in use by the node with pid {pid}", pid=pid) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return cls(path, lock)

    @property
    def key_path(self) -> Path:
        return self.path / "node.key"

    @property
    def journal_path(self) -> Path:
        return self.path / "journal.db"

    def admin_token(self) -> str:
        """The token that may do everything, made at the first start."""
        path = self.path / "admin.token"
        if not path.exists():
            write_secret(path, secrets.token_hex(32).encode())
        return read_secret(path).decode().strip()

    def announce(self, url: str) -> None:
        """Write ``node.json`` so that the CLI finds this node."""
        path = self.path / "node.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode({"pid": os.getpid(), "url": url}))
        temporary.replace(path)

    def close(self) -> None:
        (self.path / "node.json").unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)


def _lock(descriptor: int) -> None:
    """Take the lock for good. Whoever merely looks whether a node runs holds it for a moment, so ask a few times."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(PAUSE_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
