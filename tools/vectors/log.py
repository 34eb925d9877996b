"""Vectors of TIP-05: log, heads and proofs."""

from collections.abc import Sequence
from functools import partial

import msgspec
from tests.proto import samples

from tirami.ledger import MerkleLog
from tirami.proto import leaf
from tirami.verify import leaf_hash, verify_consistency, verify_inclusion
from tools.vectors.case import Case, case, code, plain
from tools.vectors.tables import fenced

LARGEST = 9


def vectors() -> Case:
    merkle, leaves, roots = MerkleLog(), [b"leaf %d" % number for number in range(LARGEST)], []
    roots.append(merkle.root())
    for data in leaves:
        merkle.append(data)
        roots.append(merkle.root())
    inclusions = [
        {"index": index, "size": size, "proof": merkle.inclusion(index, size)}
        for size in range(1, LARGEST + 1)
        for index in range(size)
    ]
    consistencies = [
        {"first": first, "second": second, "proof": merkle.consistency(first, second)}
        for second in range(1, LARGEST + 1)
        for first in range(1, second + 1)
    ]
    path = merkle.inclusion(4, 7)
    hash4, zero = leaf_hash(leaves[4]), bytes(32)
    broken: list[tuple[str, bytes, int, int, Sequence[bytes], bytes]] = [
        ("the path cut", hash4, 4, 7, path[:-1], roots[7]),
        ("a hash too many", hash4, 4, 7, [*path, zero], roots[7]),
        ("the path turned", hash4, 4, 7, path[::-1], roots[7]),
        ("another index", hash4, 5, 7, path, roots[7]),
        ("index at the size", hash4, 7, 7, path, roots[7]),
        ("another size", hash4, 4, 8, path, roots[8]),
        ("another leaf", leaf_hash(leaves[3]), 4, 7, path, roots[7]),
        ("another root", hash4, 4, 7, path, roots[6]),
        ("a hash of 31 bytes", hash4, 4, 7, [path[0][:-1], *path[1:]], roots[7]),
        ("an empty tree", hash4, 0, 0, [], roots[0]),
    ]
    step = merkle.consistency(3, 7)
    unequal: list[tuple[str, int, int, bytes, bytes, Sequence[bytes]]] = [
        ("the proof cut", 3, 7, roots[3], roots[7], step[:-1]),
        ("a hash too many", 3, 7, roots[3], roots[7], [*step, zero]),
        ("empty", 3, 7, roots[3], roots[7], []),
        ("an old root that was never published", 3, 7, roots[2], roots[7], step),
        ("another new root", 3, 7, roots[3], roots[6], step),
        ("sizes turned", 7, 3, roots[7], roots[3], step),
        ("from the empty tree", 0, 7, roots[0], roots[7], []),
        ("equal sizes, unequal roots", 7, 7, roots[7], roots[6], []),
        ("equal sizes, a proof", 7, 7, roots[7], roots[7], [zero]),
    ]
    return {
        "leaves": [
            {"data": data.hex(), "hash": leaf_hash(data).hex(), "size": size, "root": roots[size].hex()}
            for size, data in enumerate(leaves, start=1)
        ],
        "empty_root": roots[0].hex(),
        "inclusion": plain(inclusions),
        "consistency": plain(consistencies),
        "inclusion_refused": [
            case(name, leaf=h, index=i, size=n, proof=p, root=r, error=code(partial(verify_inclusion, h, i, n, p, r)))
            for name, h, i, n, p, r in broken
        ],
        "consistency_refused": [
            case(
                n,
                first=f,
                second=s,
                first_root=a,
                second_root=b,
                proof=p,
                error=code(partial(verify_consistency, f, s, a, b, p)),
            )
            for n, f, s, a, b, p in unequal
        ],
        "record_leaves": [
            case(
                "a trade: body, payer's and provider's signature",
                envelope=msgspec.msgpack.encode(envelope),
                leaf=leaf(envelope),
                hash=leaf_hash(leaf(envelope)),
            )
            for envelope in [samples.trade_envelope()]
        ],
    }


def example() -> list[str]:
    merkle = MerkleLog()
    for number in range(3):
        merkle.append(b"leaf %d" % number)
    a, b, c = (leaf_hash(b"leaf %d" % number).hex() for number in range(3))
    path = merkle.inclusion(2, 3)
    return fenced(
        f'a    = SHA-256(00 ‖ "leaf 0") = {a}',
        f'b    = SHA-256(00 ‖ "leaf 1") = {b}',
        f'c    = SHA-256(00 ‖ "leaf 2") = {c}',
        f"ab   = SHA-256(01 ‖ a ‖ b)    = {path[0].hex()}",
        f"root = SHA-256(01 ‖ ab ‖ c)   = {merkle.root().hex()}",
        "inclusion of leaf 2 in size 3: [ab];  consistency from 2 to 3: [c]",
    )
