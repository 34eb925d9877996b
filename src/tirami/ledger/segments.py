"""Segments: old entries of the journal, a quarter of a megabyte at a time, under one seal.

Re-hashing four million rows one by one takes a minute; as a few thousand blobs it takes seconds. A segment holds whole
entries with their chain hashes, so that one that does not match its seal still says which entry is wrong. Pure bytes;
:mod:`.journal` moves rows in and reads them back.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

SEGMENT_BYTES = 1 << 18
GENESIS = sha256(b"tirami/1/journal").digest()
"""Chain hash before the first entry."""
_TAG = b"tirami/1/segment"
_HEAD = 1 + 8 + 32
"""Kind, time and chain hash before each body."""

Row = tuple[int, int, int, bytes, bytes]
"""seq, kind, at_ms, body, chain."""


def chain_hash(key: bytes, previous: bytes, seq: int, kind: int, at_ms: int, body: bytes) -> bytes:
    return hmac.digest(key, previous + seq.to_bytes(8) + bytes((kind,)) + at_ms.to_bytes(8) + body, "sha256")


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries ``first`` … ``last``. ``chain`` is the chain hash of the last one.

    ``data`` is n + 1 offsets of 4 bytes (where each entry begins and the last one ends), then the entries.
    """

    first: int
    last: int
    chain: bytes
    seal: bytes
    data: bytes

    @classmethod
    def of(cls, rows: Sequence[Row], previous: bytes, key: bytes) -> Self:
        """Seal consecutive rows; ``previous`` is the chain hash before the first."""
        place, offsets, entries = 4 * (len(rows) + 1), [], []
        for _, kind, at_ms, body, chain in rows:
            offsets.append(place)
            entries.append(bytes((kind,)) + at_ms.to_bytes(8) + chain + body)
            place += len(entries[-1])
        offsets.append(place)
        data = b"".join((*(offset.to_bytes(4) for offset in offsets), *entries))
        first, last, chain = rows[0][0], rows[-1][0], rows[-1][4]
        return cls(first, last, chain, _seal(key, previous, first, last, chain, data), data)

    def sealed(self, previous: bytes, key: bytes) -> bool:
        """Whether every byte is as it was sealed after an entry with the chain hash ``previous``."""
        return hmac.compare_digest(_seal(key, previous, self.first, self.last, self.chain, self.data), self.seal)

    def row(self, seq: int) -> Row:
        """One entry. Raises ``ValueError`` when the bytes hold none."""
        place = 4 * (seq - self.first)
        start, end = (int.from_bytes(self.data[at : at + 4]) for at in (place, place + 4))
        if not place + 4 < start <= end - _HEAD <= len(self.data) - _HEAD:
            raise ValueError("the bytes of a segment do not hold this entry")
        head = self.data[start : start + _HEAD]
        return seq, head[0], int.from_bytes(head[1:9]), self.data[start + _HEAD : end], head[9:]

    def broken(self, previous: bytes, key: bytes) -> int:
        """The first entry that does not hash to its chain; the first of all when only the seal is wrong."""
        for seq in range(self.first, self.last + 1):
            try:
                _, kind, at_ms, body, chain = self.row(seq)
            except ValueError:
                return seq
            if chain_hash(key, previous, seq, kind, at_ms, body) != chain:
                return seq
            previous = chain
        return self.first


def _seal(key: bytes, previous: bytes, first: int, last: int, chain: bytes, data: bytes) -> bytes:
    numbers = first.to_bytes(8) + last.to_bytes(8)
    return hmac.digest(key, _TAG + previous + numbers + chain + sha256(data).digest(), "sha256")
