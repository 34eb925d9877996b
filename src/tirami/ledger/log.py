"""The RFC 6962 log over all records of this journal, kept in memory as complete subtrees.

``append`` is O(1) amortised, ``root`` O(log n), proofs O(log² n) hashes at most. The arithmetic of checking lives in
:mod:`tirami.verify.merkle`; this is only the side that answers.
"""

from tirami.core.keys import Digest
from tirami.ledger.columns import ByteColumn
from tirami.verify import empty_root, largest_power_of_two_below, leaf_hash, node_hash

_HASH = 32


class MerkleLog:
    """Append-only tree; hash i of ``levels[k]`` is that of the complete subtree of 2ᵏ leaves starting at i·2ᵏ.

    64 bytes a leaf.
    """

    def __init__(self) -> None:
        self._levels = [ByteColumn()]
        self._root = (0, empty_root())

    @property
    def size(self) -> int:
        return len(self._levels[0]) // _HASH

    def leaf(self, index: int) -> Digest:
        """Hash of the leaf at ``index``."""
        return self._hash(0, index)

    def append(self, leaf: bytes) -> int:
        """Add a leaf (raw bytes, hashed here) and return its index."""
        index = self.size
        self._levels[0] += leaf_hash(leaf)
        level = 0
        while (index >> level) & 1:
            below = self._levels[level]
            if level + 1 == len(self._levels):
                self._levels.append(ByteColumn())
            self._levels[level + 1] += node_hash(bytes(below[-2 * _HASH : -_HASH]), bytes(below[-_HASH:]))
            level += 1
        return index

    def root(self, size: int | None = None) -> Digest:
        """Root of the first ``size`` leaves (all of them by default); the last one asked for is remembered."""
        size = self.size if size is None else size
        if size != self._root[0]:
            self._root = size, empty_root() if size == 0 else self._subtree(0, size)
        return self._root[1]

    def inclusion(self, index: int, size: int) -> list[Digest]:
        """Audit path of leaf ``index`` in the tree of ``size`` leaves; 0 ≤ index < size ≤ this size."""
        return self._path(index, 0, size)

    def consistency(self, first: int, second: int) -> list[Digest]:
        """Proof that the tree of ``first`` leaves is a prefix of that of ``second``; 0 ≤ first ≤ second."""
        if first == 0 or first == second:
            return []
        return self._subproof(first, 0, second, complete=True)

    def _hash(self, level: int, index: int) -> Digest:
        return Digest(bytes(self._levels[level][index * _HASH : index * _HASH + _HASH]))

    def _subtree(self, start: int, size: int) -> Digest:
        if size & (size - 1) == 0:
            level = size.bit_length() - 1
            return self._hash(level, start >> level)
        left = largest_power_of_two_below(size)
        return node_hash(self._subtree(start, left), self._subtree(start + left, size - left))

    def _path(self, index: int, start: int, size: int) -> list[Digest]:
        if size == 1:
            return []
        left = largest_power_of_two_below(size)
        if index < left:
            return [*self._path(index, start, left), self._subtree(start + left, size - left)]
        return [*self._path(index - left, start + left, size - left), self._subtree(start, left)]

    def _subproof(self, first: int, start: int, size: int, *, complete: bool) -> list[Digest]:
        if first == size:
            return [] if complete else [self._subtree(start, size)]
        left = largest_power_of_two_below(size)
        if first <= left:
            tail = self._subtree(start + left, size - left)
            return [*self._subproof(first, start, left, complete=complete), tail]
        head = self._subtree(start, left)
        return [*self._subproof(first - left, start + left, size - left, complete=False), head]
