"""RFC 6962 / RFC 9162 arithmetic, judged by foreign vectors and by the RFC's own recursive definition."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proto.samples import Log
from tirami.core.errors import InvalidProof
from tirami.verify import (
    empty_root,
    largest_power_of_two_below,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)

BESIDE = [parent / "shared" / "vectors" / "rfc6962-proofs.json" for parent in Path(__file__).parents[2:5]]
VECTORS = next((path for path in BESIDE if path.exists()), BESIDE[0])
"""Beside the repository, or beside the one that this copy of it lies in (``make mutants``)."""
SIZES = st.integers(1, 40)


def expressible(case: dict[str, Any]) -> bool:
    """Whether RFC 6962 alone can say it.

    The vectors also hold proofs about subtrees [start, end) (a later draft). Inclusion in a subtree that can exist is
    inclusion in a tree of its size; consistency of one that starts at 0 is plain consistency. The rest is not ours.
    """
    if "start" not in case:
        return True
    if "leafIdx" in case:
        size = case["end"] - case["start"]
        return bool(size > 0 and case["start"] % (1 << (size - 1).bit_length()) == 0)
    return bool(case["start"] == 0 and case["end"] > 0)


def cases() -> dict[str, dict[str, Any]]:
    if not VECTORS.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(VECTORS.read_text())["cases"]
    return {name: case for name, case in found.items() if expressible(case)}


CASES = cases()


def data(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def judge(case: dict[str, Any]) -> None:
    proof = [data(node) for node in case["proof"] or ()]
    if "leafHash" in case:
        start = case.get("start", 0)
        size = case["end"] - start if "end" in case else case["treeSize"]
        verify_inclusion(data(case["leafHash"]), case["leafIdx"] - start, size, proof, data(case["root"]))
    else:
        first, second = case.get("size1", case.get("end")), case.get("size2", case.get("size"))
        verify_consistency(first, second, data(case["root1"]), data(case["root2"]), proof)


@pytest.mark.skipif(not CASES, reason="the RFC 6962 vectors are not beside this repository")
def test_the_foreign_vectors_are_all_there() -> None:
    plain = [name for name in CASES if not name.startswith("subtree")]
    assert len(plain) == 196
    assert len(CASES) > 400
    assert any(not case["wantErr"] for case in CASES.values())


@pytest.mark.skipif(not CASES, reason="the RFC 6962 vectors are not beside this repository")
@pytest.mark.parametrize("name", CASES)
def test_foreign_vectors(name: str) -> None:
    case = CASES[name]
    if case["wantErr"]:
        with pytest.raises(InvalidProof):
            judge(case)
    else:
        judge(case)


def log(size: int) -> Log:
    return Log(tuple(bytes([number]) for number in range(size)))


def test_definitions() -> None:
    assert empty_root() == hashlib.sha256(b"").digest()
    assert leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    assert node_hash(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()
    assert leaf_hash(b"") != empty_root()


@given(st.integers(2, 2**70))
def test_the_split_of_a_tree(size: int) -> None:
    power = largest_power_of_two_below(size)
    assert power.bit_count() == 1
    assert power < size <= 2 * power


@given(st.data(), SIZES)
def test_inclusion_agrees_with_the_definition(draw: st.DataObject, size: int) -> None:
    tree, index = log(size), draw.draw(st.integers(0, size - 1))
    leaf, proof, root = leaf_hash(tree.leaves[index]), tree.inclusion(index), tree.root()
    assert root_from_inclusion(leaf, index, size, proof) == root
    verify_inclusion(leaf, index, size, proof, root)
    for other in set(range(-1, size + 2)) - {index}:
        with pytest.raises(InvalidProof):
            verify_inclusion(leaf, other, size, proof, root)
    for wrong in (proof[:-1] if proof else [root], [*proof, root], proof[::-1] if len(proof) > 1 else [root]):
        with pytest.raises(InvalidProof):
            verify_inclusion(leaf, index, size, wrong, root)


@given(st.data(), SIZES)
def test_consistency_agrees_with_the_definition(draw: st.DataObject, second: int) -> None:
    first = draw.draw(st.integers(1, second))
    tree, earlier = log(second), log(first)
    proof = tree.consistency(first)
    verify_consistency(first, second, earlier.root(), tree.root(), proof)
    forged = hashlib.sha256(b"forged").digest()
    for root_1, root_2, wrong in (
        (forged, tree.root(), proof),
        (earlier.root(), forged, proof),
        (earlier.root(), tree.root(), [*proof, forged]),
        (earlier.root(), tree.root(), proof[:-1] if proof else [forged]),
    ):
        with pytest.raises(InvalidProof):
            verify_consistency(first, second, root_1, root_2, wrong)
    if first < second:
        with pytest.raises(InvalidProof):
            verify_consistency(second, first, tree.root(), earlier.root(), proof)


def test_a_proof_from_the_empty_tree_is_refused() -> None:
    for second, root in ((0, empty_root()), (5, log(5).root())):
        with pytest.raises(InvalidProof):
            verify_consistency(0, second, empty_root(), root, [])


def test_hashes_have_32_bytes() -> None:
    tree = log(5)
    leaf, proof, root = leaf_hash(tree.leaves[2]), tree.inclusion(2), tree.root()
    for wrong in (b"", leaf[:-1], leaf + b"\0"):
        with pytest.raises(InvalidProof):
            verify_inclusion(wrong, 2, 5, proof, root)
        with pytest.raises(InvalidProof):
            verify_inclusion(leaf, 2, 5, [wrong, *proof[1:]], root)
        with pytest.raises(InvalidProof):
            verify_consistency(3, 5, log(3).root(), root, [wrong, *tree.consistency(3)[1:]])
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf, 2, 5, [proof[0] + proof[1], *proof[2:]], root)


def test_halves_moved_between_neighbours_are_refused() -> None:
    """64 bytes of a node may not be cut elsewhere than in the middle."""
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    root = node_hash(left, right)
    verify_inclusion(left, 0, 2, [right], root)
    both = left + right
    with pytest.raises(InvalidProof):
        verify_inclusion(both[:31], 0, 2, [both[31:]], root)


A, B, ONE = leaf_hash(b"a"), leaf_hash(b"b"), log(1).root()


@pytest.mark.parametrize(
    ("index", "size", "proof", "reason", "param"),
    [
        (1, 1, [], "the leaf index lies outside the tree", "leaf_index"),
        (-1, 1, [], "the leaf index lies outside the tree", "leaf_index"),
        (0, 1, [A], "the inclusion proof is too long", "proof"),
        (0, 2, [], "the inclusion proof is too short", "proof"),
        (0, 2, [A], "the inclusion proof leads to another root", "proof"),
        (0, 2, [b"short"], "a hash has 32 bytes", "proof"),
    ],
)
def test_a_refused_inclusion_says_why(index: int, size: int, proof: list[bytes], reason: str, param: str) -> None:
    with pytest.raises(InvalidProof) as caught:
        verify_inclusion(A, index, size, proof, B)
    assert (caught.value.message, caught.value.param) == (reason, param)


@pytest.mark.parametrize(
    ("first", "second", "proof", "reason", "param"),
    [
        (0, 1, [], "a later tree cannot be smaller, and the empty tree proves nothing", "first"),
        (2, 1, [], "a later tree cannot be smaller, and the empty tree proves nothing", "first"),
        (1, 1, [], "equal trees need no proof and have one root", "proof"),
        (3, 5, [], "the consistency proof is empty", "proof"),
        (1, 2, [A, B], "the consistency proof is too long", "proof"),
        (1, 2, [A], "the consistency proof does not lead to both roots", "proof"),
        (1, 2, [], "the consistency proof does not lead to both roots", "proof"),
    ],
)
def test_a_refused_consistency_says_why(first: int, second: int, proof: list[bytes], reason: str, param: str) -> None:
    with pytest.raises(InvalidProof) as caught:
        verify_consistency(first, second, ONE, B, proof)
    assert (caught.value.message, caught.value.param) == (reason, param)


def test_equal_trees_need_no_proof() -> None:
    verify_consistency(1, 1, ONE, ONE, [])
    with pytest.raises(InvalidProof, match="equal trees"):
        verify_consistency(1, 1, ONE, ONE, [A])
