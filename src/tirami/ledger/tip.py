"""The tip file: how far the journal had come, kept outside of it.

A write-ahead log with one damaged frame is, to SQLite, merely a shorter one: acknowledged entries would vanish
without a word. The tip is written after each commit; a journal that ends before its tip, or disagrees with it, is
refused. Restoring both files together cannot be seen without a witness (SECURITY.md says so).
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tirami.core.errors import JournalCorrupt
from tirami.core.keys import sha256

_MAGIC = b"TIRAMIT1"
_LAYOUT = struct.Struct(">8sQ32s16s")
_SLOT = 512
"""Two slots, written in turn, so that a torn write after a power cut leaves the older one readable."""


@dataclass(frozen=True, slots=True)
class Tip:
    seq: int
    chain: bytes


def _pack(tip: Tip) -> bytes:
    return _LAYOUT.pack(_MAGIC, tip.seq, tip.chain, sha256(_MAGIC, tip.seq.to_bytes(8), tip.chain)[:16])


def _unpack(data: bytes) -> Tip | None:
    if len(data) < _LAYOUT.size:
        return None
    magic, seq, chain, check = _LAYOUT.unpack_from(data)
    tip = Tip(seq, chain)
    return tip if magic == _MAGIC and check == _pack(tip)[-16:] else None


class TipFile:
    """Owner of the file; ``write`` is called from the journal's writer thread only."""

    def __init__(self, descriptor: int, last: Tip | None, turn: int) -> None:
        self._descriptor = descriptor
        self._turn = turn
        self.last = last

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ``JournalCorrupt`` when the file exists and neither slot can be read."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = os.pread(descriptor, 2 * _SLOT, 0)
        first, second = _unpack(data[:_SLOT]), _unpack(data[_SLOT:])
        last = max((tip for tip in (first, second) if tip is not None), key=lambda tip: tip.seq, default=None)
        if data.strip(b"\0") and last is None:
            os.close(descriptor)
            raise JournalCorrupt(f"{path} is damaged: neither of its two slots can be read", entry=0)
        if not data:
            os.pwrite(descriptor, bytes(2 * _SLOT), 0)
        return cls(descriptor, last, turn=1 if last is not None and last is first else 0)

    def write(self, tip: Tip) -> None:
        os.pwrite(self._descriptor, _pack(tip), self._turn * _SLOT)
        self._turn ^= 1
        self.last = tip

    def close(self) -> None:
        os.close(self._descriptor)
