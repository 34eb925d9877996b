"""The tip file: how far the journal had come, kept outside of it.

A write-ahead log with one damaged frame is, to SQLite, merely a shorter one: acknowledged entries would vanish
without a word. The tip is written after each commit; a journal that ends before its tip, or disagrees with it, is
refused, and so is one without a tip: the file is made, durable, before the first entry, and sealed under the journal's
key. Restoring both files together cannot be seen without a witness (SECURITY.md says so).
"""

import fcntl
import hmac
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tirami.core.errors import DataDirLocked, JournalRollback

_MAGIC = b"TIRAMIT1"
_LAYOUT = struct.Struct(">8sQ32s16s")
_SLOT = 512
"""Two slots, written in turn, so that a torn write after a power cut leaves the older one readable."""


@dataclass(frozen=True, slots=True)
class Tip:
    seq: int
    chain: bytes


def pack_tip(tip: Tip, key: bytes) -> bytes:
    """One slot: magic, position, chain and the first half of their HMAC-SHA256."""
    seal = hmac.digest(key, _MAGIC + tip.seq.to_bytes(8) + tip.chain, "sha256")
    return _LAYOUT.pack(_MAGIC, tip.seq, tip.chain, seal[:16])


def unpack_tip(data: bytes, key: bytes) -> Tip | None:
    """The tip in a slot; ``None`` for anything this node did not write."""
    if len(data) < _LAYOUT.size:
        return None
    _, seq, chain, _ = _LAYOUT.unpack_from(data)
    tip = Tip(seq, chain)
    return tip if hmac.compare_digest(data[: _LAYOUT.size], pack_tip(tip, key)) else None


class TipFile:
    """Owner of the file; ``write`` is called from the journal's writer thread only."""

    def __init__(self, descriptor: int, key: bytes, last: Tip, turn: int, lost: bool) -> None:
        self._descriptor = descriptor
        self._key = key
        self._turn = turn
        self.last = last
        self.lost = lost
        """There was no readable tip and a new one was made."""

    @classmethod
    def open(cls, path: Path, key: bytes, genesis: bytes, *, create: bool, replace: bool) -> Self:
        """Open the tip.

        Args:
            create: whether a file that is not there is made: for a new journal.
            replace: whether one that cannot be read is made anew: for an accepted rollback.

        Raises:
            JournalRollback: there is no tip, or neither slot can be read.
            DataDirLocked: somebody else has the journal of this tip open.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataDirLocked(f"the journal of {path} is in use by another process") from None
        data = os.pread(descriptor, 2 * _SLOT, 0)
        first, second = unpack_tip(data[:_SLOT], key), unpack_tip(data[_SLOT:], key)
        known = [tip for tip in (first, second) if tip is not None]
        if known:
            last = max(known, key=lambda tip: tip.seq)
            return cls(descriptor, key, last, turn=1 if last is first else 0, lost=False)
        if not replace and (data or not create):
            os.close(descriptor)
            raise JournalRollback(f"{path} is missing or damaged: it says how far the journal had come", entry=0)
        last = Tip(0, genesis)
        os.pwrite(descriptor, pack_tip(last, key).ljust(2 * _SLOT, b"\0"), 0)
        os.fsync(descriptor)
        sync_directory(path.parent)
        return cls(descriptor, key, last, turn=1, lost=True)

    def write(self, tip: Tip, *, both: bool = False) -> None:
        """``both`` leaves nothing of the tips before: the first one after an accepted rollback."""
        packed = pack_tip(tip, self._key)
        if both:
            os.pwrite(self._descriptor, packed, (self._turn ^ 1) * _SLOT)
        os.pwrite(self._descriptor, packed, self._turn * _SLOT)
        self._turn ^= 1
        self.last = tip

    def close(self) -> None:
        os.close(self._descriptor)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
