"""Offline check of signed tree heads: whose log it is, and that it has only grown."""

from collections.abc import Sequence

from tirami.core.errors import InvalidProof
from tirami.core.keys import PublicKey, Signature
from tirami.core.keys import verify as verify_signature
from tirami.proto import Head, decode
from tirami.verify.merkle import verify_consistency


def verify_head(body: bytes, signature: bytes, node: PublicKey | None = None) -> Head:
    """The head in ``body``, signed by its node, which must be ``node`` when one is named. Raises ``InvalidProof``."""
    head = decode(Head, body)
    if not verify_signature(PublicKey(head.node), Signature(signature), Head.TAG + body):
        raise InvalidProof("the head's signature does not verify", param="signature")
    if node is not None and head.node != node:
        raise InvalidProof(f"the head is signed by {head.node.hex()}, not by {node.hex()}", param="node")
    return head


def verify_growth(older: Head, newer: Head, proof: Sequence[bytes]) -> None:
    """Both heads are of one log, and everything under the older one stands unchanged under the newer.

    Raises ``InvalidProof``.
    """
    if older.node != newer.node:
        raise InvalidProof("the heads are of two nodes", param="node")
    if (older.network, older.log_id) != (newer.network, newer.log_id):
        raise InvalidProof("the node has begun another log since", param="log_id")
    if newer.size < older.size:
        raise InvalidProof(f"the log has shrunk from {older.size} to {newer.size} leaves", param="size")
    verify_consistency(older.size, newer.size, older.root, newer.root, proof)
