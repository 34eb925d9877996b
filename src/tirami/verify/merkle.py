"""RFC 6962 / RFC 9162 arithmetic of the checking side: leaves, nodes, inclusion and consistency."""

from collections.abc import Sequence
from hashlib import sha256

from tirami.core.errors import InvalidProof
from tirami.core.keys import Digest


def empty_root() -> Digest:
    """Root of the tree without leaves: SHA-256 of nothing."""
    return Digest(sha256(b"").digest())


def leaf_hash(data: bytes) -> Digest:
    return Digest(sha256(b"\x00" + data).digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    return Digest(sha256(b"\x01" + left + right).digest())


def largest_power_of_two_below(size: int) -> int:
    """The largest power of two smaller than ``size`` (> 1): where RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)


class RunningRoot:
    """The root of leaves that come one by one, in O(log n) memory: complete subtrees, largest first."""

    def __init__(self) -> None:
        self._subtrees: list[tuple[int, Digest]] = []

    def add(self, leaf: Digest) -> None:
        """Append a leaf hash."""
        size, node = 1, leaf
        while self._subtrees and self._subtrees[-1][0] == size:
            size, node = 2 * size, node_hash(self._subtrees.pop()[1], node)
        self._subtrees.append((size, node))

    def root(self) -> Digest:
        if not self._subtrees:
            return empty_root()
        node = self._subtrees[-1][1]
        for _, left in reversed(self._subtrees[:-1]):
            node = node_hash(left, node)
        return node


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> Digest:
    """The root that ``proof`` leads to from a leaf hash (RFC 9162 §2.1.3.2). Raises ``InvalidProof``."""
    if not 0 <= index < size:
        raise InvalidProof("the leaf index lies outside the tree", param="leaf_index")
    _hashes(leaf, *proof)
    position, last, current = index, size - 1, Digest(leaf)
    for sibling in proof:
        if last == 0:
            raise InvalidProof("the inclusion proof is too long", param="proof")
        if position & 1 or position == last:
            current = node_hash(sibling, current)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise InvalidProof("the inclusion proof is too short", param="proof")
    return current


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raises ``InvalidProof`` unless the leaf hash stands at ``index`` of the tree with this root."""
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise InvalidProof("the inclusion proof leads to another root", param="proof")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Raises ``InvalidProof`` unless the first tree is a prefix of the second (RFC 9162 §2.1.4.2).

    A proof from the empty tree would prove nothing and is refused.
    """
    _hashes(*proof)
    if not 0 < first <= second:
        raise InvalidProof("a later tree cannot be smaller, and the empty tree proves nothing", param="first")
    if first == second:
        if proof or first_root != second_root:
            raise InvalidProof("equal trees need no proof and have one root", param="proof")
        return
    if roots_from_consistency(first, second, first_root, proof) != (first_root, second_root):
        raise InvalidProof("the consistency proof does not lead to both roots", param="proof")


def roots_from_consistency(first: int, second: int, first_root: bytes, proof: Sequence[bytes]) -> tuple[Digest, Digest]:
    """The roots of both trees, 0 < first < second, that ``proof`` leads to. Raises ``InvalidProof``.

    ``first_root`` is where it begins when the first tree is complete; else it is not looked at.
    """
    _hashes(*proof)
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise InvalidProof("the consistency proof is empty", param="proof")
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = Digest(path[0])
    for sibling in path[1:]:
        if last == 0:
            raise InvalidProof("the consistency proof is too long", param="proof")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise InvalidProof("the consistency proof does not lead to both roots", param="proof")
    return old, new


def _hashes(*values: bytes) -> None:
    if any(len(value) != 32 for value in values):
        raise InvalidProof("a hash has 32 bytes", param="proof")
