"""A set of record ids in order, which knows the fingerprint of any range.

The ids themselves stay where the book keeps them (:class:`tirami.ledger.columns.RecordIds`); here are only their
places, 4 bytes each, in sorted buckets of at most 128, and the sum of each bucket in a Fenwick tree. An insertion and
the fingerprint of any range cost O(log n); a bucket that splits, once in 64 insertions at most, lets the tree be made
anew from n ÷ 64 sums. Works for any ids, ground ones included.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import pairwise

from tirami.ledger.columns import U32, RecordIds, Table

BUCKET = 128
_SUM_BITS = 256
_COUNT_SHIFT = 320
"""A weight is one integer: the number of ids above, the sum of their hashes below, with 64 bits between."""
_MODULUS = 1 << _SUM_BITS


def _weight(record_id: bytes) -> int:
    return int.from_bytes(sha256(record_id).digest()) + (1 << _COUNT_SHIFT)


def _fingerprint(weight: int) -> bytes:
    total, count = weight % _MODULUS, weight >> _COUNT_SHIFT
    return sha256(total.to_bytes(32) + count.to_bytes(8)).digest()[:16]


NOTHING = _fingerprint(0)
"""Fingerprint of a range without ids."""


class IdSet:
    """Some of the ids in ``ids``, ascending; bounds are those of :mod:`tirami.proto.reconciliation`."""

    def __init__(self, ids: RecordIds, places: Iterable[int] = ()) -> None:
        """``places``: those to begin with, each once, in any order; cheaper than adding them one by one."""
        self._ids = ids
        ordered = Table(U32, sorted(places, key=ids.__getitem__))
        half = BUCKET // 2
        self._buckets = [ordered[start : start + half] for start in range(0, len(ordered), half)] or [Table(U32)]
        self._firsts = [b"", *(bytes(ids[bucket[0]]) for bucket in self._buckets[1:])]
        self._weights = [sum(_weight(ids[place]) for place in bucket) for bucket in self._buckets]
        self._tree: list[int] = []
        """Fenwick tree over ``_weights``, node i at i − 1; empty while it has to be made anew."""

    def stand_in(self, ids: RecordIds) -> None:
        """From now on read ``ids``, which have in these places what the former ones had."""
        self._ids = ids

    def __len__(self) -> int:
        return self._below(b"", end=True) >> _COUNT_SHIFT

    def __contains__(self, record_id: bytes) -> bool:
        bucket = self._buckets[self._bucket(record_id)]
        position = self._position(bucket, record_id)
        return position < len(bucket) and self._ids[bucket[position]] == record_id

    def add(self, place: int) -> bool:
        """Take in the id at ``place``; ``False`` when it was in."""
        record_id = self._ids[place]
        number = self._bucket(record_id)
        bucket = self._buckets[number]
        position = self._position(bucket, record_id)
        if position < len(bucket) and self._ids[bucket[position]] == record_id:
            return False
        bucket.insert(position, place)
        weight = _weight(record_id)
        self._weights[number] += weight
        if len(bucket) > BUCKET:
            self._split(number)
        elif self._tree:
            node = number + 1
            while node <= len(self._tree):
                self._tree[node - 1] += weight
                node += node & -node
        return True

    def fingerprint(self, lower: bytes = b"", upper: bytes = b"") -> bytes:
        """First 16 bytes of SHA-256(Σ SHA-256(id) mod 2²⁵⁶ as 32 bytes ‖ their number as 8), both big-endian."""
        return _fingerprint(self._below(upper, end=not upper) - self._below(lower))

    def count(self, lower: bytes = b"", upper: bytes = b"") -> int:
        return (self._below(upper, end=not upper) - self._below(lower)) >> _COUNT_SHIFT

    def between(self, lower: bytes = b"", upper: bytes = b"") -> Iterator[bytes]:
        """Ids of a range, ascending."""
        number = self._bucket(lower)
        position = self._position(self._buckets[number], lower)
        for bucket in self._buckets[number:]:
            for place in bucket[position:]:
                record_id = self._ids[place]
                if upper and record_id >= upper:
                    return
                yield record_id
            position = 0

    def cut(self, lower: bytes, upper: bytes, parts: int) -> Iterator[tuple[bytes, bytes]]:
        """The range in ``parts`` of (nearly) equal numbers of ids; it has at least as many ids."""
        first = self._below(lower) >> _COUNT_SHIFT
        size = self.count(lower, upper)
        inner = (self._bound(first + size * part // parts) for part in range(1, parts))
        return pairwise((lower, *inner, upper))

    def parts(self, lower: bytes, upper: bytes, parts: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        """As :meth:`cut`, each part with its fingerprint."""
        before = self._below(lower)
        for first, last in self.cut(lower, upper, parts):
            after = self._below(last, end=not last)
            yield first, last, _fingerprint(after - before)
            before = after

    def _bound(self, rank: int) -> bytes:
        """The shortest prefix between the ids of rank ``rank`` − 1 and ``rank`` (≥ 1)."""
        before, after = self._at(rank - 1), self._at(rank)
        same = next(length for length in range(32) if before[length] != after[length])
        return after[: same + 1]

    def _at(self, rank: int) -> bytes:
        """The id of this rank, from 0: down the Fenwick tree."""
        tree = self._fenwick()
        node = 0
        for step in reversed(range(len(tree).bit_length())):
            child = node + (1 << step)
            if child <= len(tree) and tree[child - 1] >> _COUNT_SHIFT <= rank:
                node, rank = child, rank - (tree[child - 1] >> _COUNT_SHIFT)
        return self._ids[self._buckets[node][rank]]

    def _below(self, bound: bytes, *, end: bool = False) -> int:
        """Weight of all ids before ``bound``."""
        number = len(self._buckets) if end else self._bucket(bound)
        tree, node = self._fenwick(), number
        weight = 0
        while node:
            weight += tree[node - 1]
            node &= node - 1
        if end:
            return weight
        bucket = self._buckets[number]
        position = self._position(bucket, bound)
        if 2 * position <= len(bucket):
            return weight + self._sum(bucket[:position])
        return weight + self._weights[number] - self._sum(bucket[position:])

    def _sum(self, places: "array[int]") -> int:
        return sum(_weight(self._ids[place]) for place in places)

    def _bucket(self, bound: bytes) -> int:
        return bisect_right(self._firsts, bound) - 1

    def _position(self, bucket: "array[int]", bound: bytes) -> int:
        return bisect_left(bucket, bound, key=self._ids.__getitem__)

    def _split(self, number: int) -> None:
        bucket = self._buckets[number]
        upper = bucket[BUCKET // 2 :]
        del bucket[BUCKET // 2 :]
        weight = self._sum(upper)
        self._weights[number] -= weight
        self._buckets.insert(number + 1, upper)
        self._firsts.insert(number + 1, bytes(self._ids[upper[0]]))
        self._weights.insert(number + 1, weight)
        self._tree.clear()

    def _fenwick(self) -> list[int]:
        if not self._tree:
            tree = list(self._weights)
            for node in range(1, len(tree) + 1):
                parent = node + (node & -node)
                if parent <= len(tree):
                    tree[parent - 1] += tree[node - 1]
            self._tree = tree
        return self._tree
