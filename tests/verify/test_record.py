"""One record offline: its parties' signatures, its id and its leaf."""

import pytest

from tests.proto.samples import GRANT, NODE, PAYER, TRADE, TRANSFER
from tirami.core.errors import InvalidProof, VerificationError
from tirami.core.keys import SigningKey
from tirami.proto import Grant, Trade, Transfer, encode, parties, record_id, sign
from tirami.verify import leaf_hash, verify_record

SIGNERS = {NODE.public_key: NODE, PAYER.public_key: PAYER}
KINDS: dict[str, Trade | Grant | Transfer] = {"trade": TRADE, "grant": GRANT, "transfer": TRANSFER}


def signatures(record: Trade | Grant | Transfer) -> list[bytes]:
    signers = parties(record) if isinstance(record, Trade) else parties(record)[:1]
    return [sign(record, SIGNERS[key]) for key in signers]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_signed_is_verified(kind: str) -> None:
    record = KINDS[kind]
    signed = signatures(record)
    found = verify_record(kind, encode(record), signed)
    assert (found.body, found.record_id) == (record, record_id(record))
    assert found.leaf == leaf_hash(encode(record) + b"".join(signed))
    assert found.amount == (record.limit if isinstance(record, Grant) else record.amount)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_such_record_is_refused(kind: str) -> None:
    body, signed = encode(KINDS[kind]), signatures(KINDS[kind])
    for other in {*KINDS, "head", ""} - {kind}:
        with pytest.raises(VerificationError):
            verify_record(other, body, signed)
    for wrong in ([], signed[1:], [*signed, signed[0]], [*signed[:-1], bytes(64)], [*signed[:-1], b""]):
        with pytest.raises(InvalidProof) as caught:
            verify_record(kind, body, wrong)
        assert caught.value.param == "signatures"
    with pytest.raises(InvalidProof):
        verify_record(kind, body, [*signed[:-1], sign(KINDS[kind], SigningKey.generate())])
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        with pytest.raises(VerificationError):
            verify_record(kind, bytes(changed), signed)


def test_both_sign_a_trade_in_their_order() -> None:
    with pytest.raises(InvalidProof):
        verify_record("trade", encode(TRADE), signatures(TRADE)[::-1])
