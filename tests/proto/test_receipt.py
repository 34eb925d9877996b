"""The receipt file as a file: exactly RFC 8785, nothing more, nothing less."""

import json
from typing import Any

import msgspec
import pytest
import rfc8785

from tests.proto.samples import HEAD, INDEX, NODE, RECEIPT, TRADE, changed, receipt_of, trade_envelope
from tirami.core.errors import InvalidReceipt, NonCanonical
from tirami.proto import Envelope, build_receipt, encode, parse_receipt, record_id, sign, summary_of

DOCUMENT: dict[str, Any] = json.loads(RECEIPT)


def test_the_file_is_its_rfc_8785_form() -> None:
    assert rfc8785.dumps(DOCUMENT) == RECEIPT
    assert json.dumps(DOCUMENT, sort_keys=True, separators=(",", ":")).encode() == RECEIPT
    assert sorted(DOCUMENT) == [
        "acceptance",
        "acceptance_signature",
        "body",
        "format",
        "head",
        "head_signature",
        "kind",
        "leaf_index",
        "proof",
        "signatures",
        "trade",
    ]


def test_parse_gives_back_what_was_built() -> None:
    receipt = parse_receipt(RECEIPT)
    assert bytes.fromhex(receipt.body) == encode(TRADE)
    assert bytes.fromhex(receipt.head) == encode(HEAD)
    assert receipt.leaf_index == INDEX
    assert receipt.trade == summary_of(TRADE, encode(TRADE))
    assert receipt.trade.id == record_id(TRADE).hex()
    assert (receipt.trade.amount_trm, receipt.trade.flop) == (TRADE.amount, str(TRADE.flop))


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"format": "tirami/2/receipt"},
        {"kind": "grant"},
        {"leaf_index": -4},
        {"leaf_index": 4.5},
        {"leaf_index": "4"},
        {"leaf_index": None},
        {"body": DOCUMENT["body"].upper()},
        {"body": DOCUMENT["body"][:-1]},
        {"body": DOCUMENT["body"] + "\n"},
        {"body": DOCUMENT["body"] + " "},
        {"body": ""},
        {"body": "00" * 16_385},
        {"signatures": DOCUMENT["signatures"][:1]},
        {"signatures": DOCUMENT["signatures"] * 2},
        {"signatures": [DOCUMENT["signatures"][0] + "00", DOCUMENT["signatures"][1]]},
        {"acceptance_signature": DOCUMENT["acceptance_signature"] + "\n"},
        {"head_signature": DOCUMENT["head_signature"].upper()},
        {"proof": DOCUMENT["proof"] + [DOCUMENT["proof"][0] + "\n"]},
        {"proof": ["00" * 32] * 65},
        {"trade": None},
        {"trade": DOCUMENT["trade"] | {"colour": "red"}},
        {"trade": DOCUMENT["trade"] | {"flop": 7}},
    ],
    ids=lambda change: " ".join(f"{name}={str(value)[:24]!r}" for name, value in change.items()),
)
def test_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidReceipt):
        parse_receipt(rfc8785.dumps(DOCUMENT | change))


@pytest.mark.parametrize("missing", DOCUMENT)
def test_every_field_is_needed(missing: str) -> None:
    with pytest.raises(InvalidReceipt):
        parse_receipt(rfc8785.dumps({name: value for name, value in DOCUMENT.items() if name != missing}))


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(DOCUMENT).encode(),
        json.dumps(DOCUMENT, separators=(",", ":")).encode()[:-1] + b" }",
        json.dumps(dict(reversed(DOCUMENT.items())), separators=(",", ":")).encode(),
        RECEIPT + b"\n",
        b" " + RECEIPT,
        b"\xef\xbb\xbf" + RECEIPT,
        RECEIPT.replace(b'"kind":"trade"', b'"kind":"trade","kind":"trade"'),
        RECEIPT.replace(b'"kind":"trade"', b'"kind":"\\u0074rade"'),
        RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":4.0'),
        RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":4e0'),
        RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":-4'),
        RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":9007199254740992'),
        RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":' + b"9" * 5_000),
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 10_000,
        b" " * 100_000,
    ],
    ids=range(19),
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        parse_receipt(data)


def test_numbers_beyond_json_have_no_receipt() -> None:
    with pytest.raises(InvalidReceipt, match="RFC 8785"):
        receipt_of(trade_envelope(changed(TRADE, amount=2**53)))
    assert b'"flop":"18446744073709551615"' in receipt_of(trade_envelope(changed(TRADE, flop=2**64 - 1)))


def test_only_trades_have_receipts() -> None:
    good = trade_envelope()
    head = encode(HEAD)
    for bad in (
        msgspec.structs.replace(good, kind="grant"),
        msgspec.structs.replace(good, signatures=good.signatures[:1]),
        msgspec.structs.replace(good, attachments=()),
    ):
        with pytest.raises(InvalidReceipt):
            build_receipt(bad, INDEX, [], head, sign(HEAD, NODE))
    with pytest.raises(NonCanonical):
        build_receipt(Envelope("trade", b"x", good.signatures, good.attachments), INDEX, [], head, sign(HEAD, NODE))
