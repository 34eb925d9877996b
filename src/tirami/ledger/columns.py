"""Columns: what a book of a million records keeps of each of them, as packed numbers and bytes instead of objects.

They are plain arrays; the classes say how a snapshot may copy them while the node goes on (:mod:`.snapshot`).
"""

from array import array
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from tirami.core.keys import Digest

if TYPE_CHECKING:
    Array = array[int]
else:
    Array = array  # Python 3.11 does not subscript it

U32, U64 = "I", "Q"
LARGEST = (1 << 64) - 1


class Column(Array):
    """Unsigned integers that are only ever appended: its first n items never change."""


class ByteColumn(bytearray):
    """Bytes that are only ever appended."""


class Table(Array):
    """Unsigned integers that change in place."""


class RecordIds:
    """Ids of records in order of arrival, and the place of each: 32 bytes and at most 16 more for one.

    A hash table of places with open addressing, in 256 shards by the first byte, so that no growth takes long.
    """

    SHARDS = 256

    def __init__(self) -> None:
        self._ids = ByteColumn()
        self._shards = [Table(U32, bytes(32)) for _ in range(self.SHARDS)]
        self._used = Table(U32, bytes(4 * self.SHARDS))

    def __len__(self) -> int:
        return len(self._ids) // 32

    def __getitem__(self, place: int) -> Digest:
        return Digest(bytes(self._ids[place * 32 : place * 32 + 32]))

    def __contains__(self, record_id: bytes) -> bool:
        return self.find(record_id) is not None

    def find(self, record_id: bytes) -> int | None:
        """Place of this record; ``None`` when it has not arrived. O(1)."""
        if len(record_id) != 32:
            return None
        used = self._shards[record_id[0]][self._slot(record_id)]
        return used - 1 if used else None

    def add(self, record_id: bytes) -> int:
        """Append an id that is not known yet; returns its place."""
        shard, place = record_id[0], len(self)
        if 2 * (self._used[shard] + 1) > len(self._shards[shard]):
            self._grow(shard)
        self._shards[shard][self._slot(record_id)] = place + 1
        self._used[shard] += 1
        self._ids += record_id
        return place

    def in_order(self, but: Container[int] = ()) -> Iterator[bytes]:
        """All ids in ascending order, but those at these places."""
        for shard in self._shards:
            yield from sorted(self[slot - 1] for slot in shard if slot and slot - 1 not in but)

    def _slot(self, record_id: bytes) -> int:
        """Where the id stands in its shard, or the free slot where it would."""
        shard, ids = self._shards[record_id[0]], self._ids
        mask = len(shard) - 1
        slot = int.from_bytes(record_id[1:5]) & mask
        while used := shard[slot]:
            if ids[used * 32 - 32 : used * 32] == record_id:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self, number: int) -> None:
        old = self._shards[number]
        self._shards[number] = Table(U32, bytes(8 * len(old)))
        for used in old:
            if used:
                self._shards[number][self._slot(self[used - 1])] = used
