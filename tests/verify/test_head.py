"""Heads: who signed them, and that a log has only grown."""

from dataclasses import dataclass

import msgspec
import pytest

from tirami.core.errors import InvalidProof, VerificationError
from tirami.core.keys import SigningKey
from tirami.ledger import MerkleLog
from tirami.proto import Head, encode, sign
from tirami.verify import verify_growth, verify_head


@dataclass
class Book:
    """A log and the key that signs its heads."""

    key: SigningKey
    log: MerkleLog

    def head(self, size: int, **other: object) -> Head:
        known = {"network": "n", "network_hash": bytes(32), "log_id": bytes(16), "at_ms": 5}
        facts = {**known, "node": self.key.public_key, "size": size, "root": self.log.root(size), **other}
        return Head(**facts)  # type: ignore[arg-type]


@pytest.fixture
def book() -> Book:
    log = MerkleLog()
    for number in range(20):
        log.append(number.to_bytes(8))
    return Book(SigningKey.generate(), log)


def test_a_head_is_its_nodes(book: Book) -> None:
    head = book.head(7)
    body, signature = encode(head), sign(head, book.key)
    assert verify_head(body, signature) == head
    assert verify_head(body, signature, book.key.public_key) == head
    with pytest.raises(InvalidProof, match="not by") as caught:
        verify_head(body, signature, SigningKey.generate().public_key)
    assert caught.value.param == "node"
    with pytest.raises(InvalidProof, match="head's signature") as caught:
        verify_head(body, sign(head, SigningKey.generate()))
    assert caught.value.param == "signature"


def test_every_changed_byte_is_refused(book: Book) -> None:
    head = book.head(7)
    whole = encode(head) + sign(head, book.key)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(VerificationError):
            verify_head(bytes(changed[:-64]), bytes(changed[-64:]))


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_no_signature_is_none(book: Book, signature: bytes) -> None:
    with pytest.raises(VerificationError):
        verify_head(encode(book.head(7)), signature)


@pytest.mark.parametrize(("first", "second"), [(1, 20), (7, 8), (8, 16), (20, 20)])
def test_growth_is_proved(book: Book, first: int, second: int) -> None:
    verify_growth(book.head(first), book.head(second), book.log.consistency(first, second))


def test_what_is_no_growth(book: Book) -> None:
    older, newer, proof = book.head(7), book.head(20), book.log.consistency(7, 20)
    other = SigningKey.generate().public_key
    for changed, words, param in (
        ({"node": other}, "two nodes", "node"),
        ({"log_id": bytes(15) + b"x"}, "another log", "log_id"),
        ({"network": "m"}, "another log", "log_id"),
        ({"root": bytes(32)}, "both roots", "proof"),
    ):
        with pytest.raises(InvalidProof, match=words) as caught:
            verify_growth(older, msgspec.structs.replace(newer, **changed), proof)
        assert caught.value.param == param
    with pytest.raises(InvalidProof, match="shrunk from 20 to 7") as caught:
        verify_growth(newer, older, proof)
    assert caught.value.param == "size"
    with pytest.raises(InvalidProof):
        verify_growth(older, newer, proof[:-1])
    with pytest.raises(InvalidProof, match="one root"):
        verify_growth(newer, msgspec.structs.replace(newer, root=bytes(32)), [])
    with pytest.raises(InvalidProof, match="empty tree"):
        verify_growth(book.head(0), newer, [])
