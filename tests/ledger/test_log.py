"""The log against the independent checker of :mod:`tirami.verify`."""

import pytest

from tirami.core.errors import InvalidProof
from tirami.ledger import MerkleLog
from tirami.verify import empty_root, leaf_hash, verify_consistency, verify_inclusion


def test_empty() -> None:
    assert MerkleLog().root() == empty_root()


@pytest.mark.parametrize("size", [*range(1, 34), 100])
def test_every_inclusion_and_every_consistency(size: int) -> None:
    log, roots = MerkleLog(), []
    for i in range(size):
        assert log.append(b"leaf %d" % i) == i
        roots.append(log.root())
    for i in range(size):
        assert log.root(i + 1) == roots[i]
        verify_inclusion(leaf_hash(b"leaf %d" % i), i, size, log.inclusion(i, size), log.root())
        verify_consistency(i + 1, size, roots[i], log.root(), log.consistency(i + 1, size))


def test_a_proof_for_another_leaf_fails() -> None:
    log = MerkleLog()
    for i in range(9):
        log.append(bytes([i]))
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf_hash(b"\x03"), 4, 9, log.inclusion(4, 9), log.root())
