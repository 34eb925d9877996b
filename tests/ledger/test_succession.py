"""Chains of keys, revocations and thieves: the same whatever comes first."""

from itertools import permutations

import msgspec
import pytest

from tirami.core.errors import InvalidProof, InvalidSignature
from tirami.core.keys import SigningKey
from tirami.ledger.succession import Succession
from tirami.proto import NO_SUCCESSOR, Rotation, SignedBody, Successor, rotation, signed
from tirami.verify import check_rotation

NET = "testnet"
A, B, C, THIEF = (SigningKey.generate() for _ in range(4))


Ordered = tuple[Rotation, SignedBody]


def ordered(key: SigningKey, successor: SigningKey | None, last: tuple[int, int] = (0, 5)) -> Ordered:
    agreed = successor and Successor.agreeing(NET, key.public_key, successor)
    made = rotation(NET, key, agreed, last, 7)
    order = signed(made, key)
    return made, SignedBody(order.body, order.signature)


def test_a_chain_leads_to_the_newest_key() -> None:
    for orders in permutations([ordered(A, B), ordered(B, C)]):
        known = Succession()
        for one in orders:
            known.add(*one)
        assert known.heir(A.public_key) == known.heir(B.public_key) == known.heir(C.public_key) == C.public_key
        assert known.ended(A.public_key)
        assert not known.ended(C.public_key)


@pytest.mark.parametrize("second", [THIEF, None], ids=["a thief's", "a revocation"])
def test_two_orders_leave_nobody(second: SigningKey | None) -> None:
    for orders in permutations([ordered(A, B), ordered(A, second)]):
        known = Succession()
        for one in orders:
            known.add(*one)
        assert known.ended(A.public_key)
        assert known.heir(A.public_key) is None


def test_keys_in_a_ring_lead_nowhere() -> None:
    known = Succession()
    for one in (ordered(A, B), ordered(B, A)):
        known.add(*one)
    assert known.heir(A.public_key) is None


def test_of_many_orders_two_are_kept() -> None:
    known = Succession()
    for _ in range(50):
        known.add(*ordered(A, SigningKey.generate()))
    assert len(known.newest(100)) == 2


def test_debits_up_to_the_named_one_are_not_late() -> None:
    known = Succession()
    known.add(*ordered(A, B, (1, 5)))
    assert not known.too_late(A.public_key, 0, 99)
    assert not known.too_late(A.public_key, 1, 5)
    assert known.too_late(A.public_key, 1, 6)
    assert known.too_late(A.public_key, 2, 1)
    assert not known.too_late(B.public_key, 2, 1)


def test_both_keys_sign() -> None:
    for successor in (B, None):
        made, order = ordered(A, successor)
        assert check_rotation(order, NET) == made
        with pytest.raises(InvalidProof):
            check_rotation(order, "another")
    made, _ = ordered(A, B)
    for changed, error in (
        ({"successor": C.public_key}, InvalidSignature),
        ({"consent": bytes(64)}, InvalidSignature),
        ({"successor": NO_SUCCESSOR}, InvalidProof),
        ({"successor": A.public_key}, InvalidProof),
        ({"key": C.public_key}, InvalidSignature),
    ):
        forged = signed(msgspec.structs.replace(made, **changed), A)
        with pytest.raises(error):
            check_rotation(SignedBody(forged.body, forged.signature), NET)


def test_the_line_of_a_key_has_all_that_were_named_to_follow_it() -> None:
    known = Succession()
    for one in (ordered(A, B), ordered(A, THIEF), ordered(B, C), ordered(C, None), ordered(THIEF, A)):
        known.add(*one)
    assert known.line(A.public_key) == {key.public_key for key in (A, B, C, THIEF)}
    assert known.line(C.public_key) == {C.public_key}
