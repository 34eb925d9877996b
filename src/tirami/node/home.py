"""The data directory: who owns it, what lies in it, and the one process that may use it."""

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Self

import msgspec

from tirami.core.config import Config
from tirami.core.errors import DataDirLocked, JournalRollback, RestoreRefused
from tirami.core.secretfile import read_secret, write_secret

TRIES, PAUSE_S = 3, 0.02
NETWORK = "network.json"
"""The network file of this directory's node, where it is not the built-in one and the settings name none."""
RESTORING = "restoring"
"""Lies in a directory while a restore moves files in it."""


def journal_path(config: Config) -> Path:
    """Where the journal lies: in the data directory unless the settings say otherwise."""
    return Path(config.journal.file).absolute() if config.journal.file else config.data_dir / "journal.db"


class Home:
    """The data directory of one node, locked for this process until :meth:`close`.

    Files: ``node.key``, ``next.key``, ``seal.key`` (:mod:`tirami.core.keyfile`) and ``admin.token`` (secrets, 0600),
    ``journal.db``, ``journal.tip`` and ``journal.snapshot``, ``journal.path`` (where the journal is that goes with the
    key), ``mesh.port`` (the UDP port of the first start on the mesh), ``node.json`` (pid and URL of the running node),
    ``lock``.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path, *, restoring: bool = False) -> Self:
        """Create the directory when missing and lock it.

        Raises ``DataDirLocked`` naming the other process; ``RestoreRefused`` when a restore broke off here, unless this
        is the next one.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock)
        except OSError as error:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise DataDirLocked(f"{path} is in use by the node with pid {pid}", pid=pid) from error
        if not restoring and (path / RESTORING).exists():
            os.close(lock)
            raise RestoreRefused(f"a restore into {path} broke off: run it again with --force", param="data_dir")
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return cls(path, lock)

    def check_journal(self, journal: Path, *, accept: bool) -> None:
        """Refuse to begin a second journal under a key that already has one: its promises would contradict the first's.

        Raises ``JournalRollback`` unless ``accept``, which begins a new incarnation.
        """
        note = self.path / "journal.path"
        there = journal.exists() and journal.stat().st_size > 0
        if accept or there or not note.exists():
            return
        known = self.path / note.read_text().strip()
        raise JournalRollback(f"there is no journal at {journal}; this node's journal was {known}", entry=0)

    def note_journal(self, journal: Path) -> None:
        """Remember where the journal is; relative inside the directory, so that the directory can be moved."""
        note, own = self.path / "journal.path", self.path.absolute()
        text = str(journal.absolute().relative_to(own) if journal.absolute().is_relative_to(own) else journal)
        if not note.exists() or note.read_text() != text:
            temporary = note.with_suffix(".tmp")
            temporary.write_text(text)
            temporary.replace(note)

    def admin_token(self) -> str:
        """The token that may do everything, made at the first start."""
        path = self.path / "admin.token"
        if not path.exists():
            write_secret(path, secrets.token_hex(32).encode())
        return read_secret(path).decode().strip()

    def announce(self, url: str, trust: dict[str, str]) -> None:
        """Write ``node.json`` so that the CLI finds this node; ``trust`` says how to check its certificate."""
        path = self.path / "node.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode({"pid": os.getpid(), "url": url, **trust}))
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
