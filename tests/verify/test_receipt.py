"""Receipts: the honest one passes, everything else is refused with a reason."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785

from tests.proto.samples import (
    ACCEPTANCE,
    AGENT,
    HEAD,
    INDEX,
    NODE,
    PAYER,
    QUOTE,
    RECEIPT,
    TRADE,
    changed,
    head_of,
    log_of,
    receipt_of,
    trade_envelope,
)
from tirami.core.errors import InvalidReceipt
from tirami.core.keys import SigningKey
from tirami.proto import Acceptance, Envelope, Head, Trade, amount_due, encode, record_id, sign
from tirami.verify import verify_receipt

DOCUMENT: dict[str, Any] = json.loads(RECEIPT)


def refused(data: bytes) -> str:
    with pytest.raises(InvalidReceipt) as caught:
        verify_receipt(data)
    return caught.value.message


def with_fields(**fields: object) -> bytes:
    return rfc8785.dumps(DOCUMENT | fields)


def test_an_honest_receipt() -> None:
    verified = verify_receipt(RECEIPT)
    assert (verified.trade, verified.acceptance, verified.head) == (TRADE, ACCEPTANCE, HEAD)
    assert (verified.record_id, verified.leaf_index, verified.amount) == (record_id(TRADE), INDEX, TRADE.amount)
    assert (verified.payer, verified.provider) == (PAYER.public_key, NODE.public_key)
    assert verified.log_node == NODE.public_key


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80])
def test_every_single_changed_byte_is_refused(mask: int) -> None:
    changed_bytes = bytearray(RECEIPT)
    for position in range(len(RECEIPT)):
        changed_bytes[position] ^= mask
        with pytest.raises(InvalidReceipt):
            verify_receipt(bytes(changed_bytes))
        changed_bytes[position] ^= mask


@pytest.mark.parametrize("start", range(0, len(RECEIPT), 401))
def test_every_value_of_sampled_bytes_is_refused(start: int) -> None:
    for value in range(256):
        if value != RECEIPT[start]:
            refused(RECEIPT[:start] + bytes([value]) + RECEIPT[start + 1 :])


def test_every_lost_or_doubled_byte_is_refused() -> None:
    for position in range(len(RECEIPT)):
        refused(RECEIPT[:position] + RECEIPT[position + 1 :])
        refused(RECEIPT[:position] + RECEIPT[position : position + 1] + RECEIPT[position:])


def test_cut_and_extended_files_are_refused() -> None:
    for length in range(len(RECEIPT)):
        refused(RECEIPT[:length])
    for more in (b"\n", b" ", b"\0", b"{}", RECEIPT):
        refused(RECEIPT + more)
        refused(more + RECEIPT)


def test_whose_keys_were_trusted() -> None:
    known = frozenset({NODE.public_key})
    assert verify_receipt(RECEIPT).trusted is False
    assert verify_receipt(RECEIPT, known).trusted is True
    for verified, words in ((verify_receipt(RECEIPT), "receipt itself"), (verify_receipt(RECEIPT, known), "you named")):
        assert words in verified.trust
        for key in (verified.payer, verified.provider, verified.log_node):
            assert key.hex() in verified.trust
    for keys in (frozenset(), frozenset({PAYER.public_key}), frozenset({AGENT.public_key})):
        with pytest.raises(InvalidReceipt, match="trusted"):
            verify_receipt(RECEIPT, keys)


def test_provider_and_log_must_both_be_known() -> None:
    head: Head = msgspec.structs.replace(HEAD, node=AGENT.public_key)
    foreign_log = receipt_of(trade_envelope(), head, AGENT)
    assert verify_receipt(foreign_log).log_node == AGENT.public_key
    assert verify_receipt(foreign_log, frozenset({NODE.public_key, AGENT.public_key})).trusted
    for keys in ({NODE.public_key}, {AGENT.public_key}):
        with pytest.raises(InvalidReceipt, match="trusted"):
            verify_receipt(foreign_log, frozenset(keys))


@pytest.mark.parametrize(
    "fields",
    [
        {"payer": NODE.public_key},
        {"network": "other"},
        {"scope": 2},
        {"incarnation": 1},
        {"session": 1},
        {"acceptance_hash": bytes(32)},
        {"quote_hash": bytes(32)},
        {"amount": TRADE.amount + 1},
        {"completion_tokens": 2_000, "amount": amount_due(QUOTE.price_in, QUOTE.price_out, 5, 2_000)},
        {"completion_tokens": 0, "amount": 0},
        {"provider": AGENT.public_key},
    ],
    ids="+".join,
)
def test_a_lie_that_both_keys_signed_is_still_a_lie(fields: dict[str, object]) -> None:
    refused(receipt_of(trade_envelope(changed(TRADE, **fields))))


def test_a_small_order_provider_is_refused() -> None:
    """The key whose signature over everything is R = sB, S = s: nobody's."""
    nobody = bytes.fromhex("01" + "00" * 31)
    acceptance: Acceptance = msgspec.structs.replace(ACCEPTANCE, provider=nobody)
    trade = changed(TRADE, provider=nobody, acceptance_hash=record_id(acceptance))
    good = trade_envelope(trade, acceptance)
    point = SigningKey.from_seed(b"\x05" * 32)
    half = bytearray(hashlib.sha512(point.seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    order = 2**252 + 27742317777372353535851937790883648493
    forged = point.public_key + (int.from_bytes(half, "little") % order).to_bytes(32, "little")
    envelope = Envelope("trade", good.body, (good.signatures[0], forged), good.attachments)
    assert "provider" in refused(receipt_of(envelope))


@pytest.mark.parametrize("place", ["payer", "provider", "acceptance", "head"])
def test_every_signature_is_checked(place: str) -> None:
    stranger = SigningKey.from_seed(b"\x09" * 32)
    good = trade_envelope()
    signatures, attachments, signer = list(good.signatures), list(good.attachments), NODE
    if place == "payer":
        signatures[0] = sign(TRADE, stranger)
    elif place == "provider":
        signatures[1] = sign(TRADE, stranger)
    elif place == "acceptance":
        attachments[1] = sign(ACCEPTANCE, stranger)
    else:
        signer = stranger
    forged = Envelope("trade", good.body, tuple(signatures), tuple(attachments))
    assert place in refused(receipt_of(forged, signer=signer))


def test_signatures_in_the_wrong_order_or_without_tag_are_refused() -> None:
    good = trade_envelope()
    for signatures in (
        good.signatures[::-1],
        (PAYER.sign(good.body), good.signatures[1]),
        (good.signatures[0], good.signatures[0]),
        (sign(ACCEPTANCE, PAYER), good.signatures[1]),
    ):
        refused(receipt_of(Envelope("trade", good.body, signatures, good.attachments)))


def test_the_place_in_the_log_is_checked() -> None:
    for index in (0, INDEX - 1, INDEX + 1, len(log_of(trade_envelope()).leaves), 2**53 - 1):
        refused(with_fields(leaf_index=index))
    proof = DOCUMENT["proof"]
    for wrong in ([], proof[:-1], [*proof, proof[0]], proof[::-1], ["00" * 32, *proof[1:]]):
        refused(with_fields(proof=wrong))


def test_the_head_is_checked() -> None:
    envelope = trade_envelope()
    good = head_of(log_of(envelope))
    for fields in ({"root": bytes(32)}, {"size": 4 * good.size}, {"size": INDEX}, {"size": 0}, {"network": "other"}):
        refused(receipt_of(envelope, msgspec.structs.replace(good, **fields)))


def test_another_trades_leaf_proves_nothing() -> None:
    other = json.loads(receipt_of(trade_envelope(changed(TRADE, at_ms=TRADE.at_ms + 1))))
    refused(with_fields(head=other["head"], head_signature=other["head_signature"], proof=other["proof"]))
    refused(with_fields(body=other["body"], signatures=other["signatures"], trade=other["trade"]))


@pytest.mark.parametrize("name", DOCUMENT["trade"])
def test_the_readable_part_must_agree(name: str) -> None:
    value = DOCUMENT["trade"][name]
    other = value + 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
    assert "summary" in refused(with_fields(trade=DOCUMENT["trade"] | {name: other}))


def test_other_records_cannot_stand_in_for_a_part() -> None:
    for name in ("body", "acceptance", "head"):
        for record in (QUOTE, ACCEPTANCE, TRADE, HEAD):
            if encode(record).hex() != DOCUMENT[name]:
                refused(with_fields(**{name: encode(record).hex()}))


def test_non_canonical_bodies_are_refused_even_when_signed() -> None:
    """0 spelled in two bytes, signed as it stands by both."""
    body = encode(TRADE)
    start = body.index(b"regtest") + len(b"regtest")
    assert body[start] == 0
    spelled = body[:start] + b"\xcc\x00" + body[start + 1 :]
    message = Trade.TAG + spelled
    signatures = [PAYER.sign(message).hex(), NODE.sign(message).hex()]
    assert "canonical" in refused(with_fields(body=spelled.hex(), signatures=signatures))
