"""Envelopes and leaves."""

import msgspec
import pytest

from tests.proto.samples import trade_envelope
from tirami.proto import Envelope, Voucher, leaf


def test_a_leaf_is_body_and_signatures() -> None:
    envelope = trade_envelope()
    assert leaf(envelope) == envelope.body + envelope.signatures[0] + envelope.signatures[1]
    assert leaf(Envelope("grant", b"body", (b"s" * 64,), ())) == b"body" + b"s" * 64


def test_attachments_are_no_part_of_the_leaf() -> None:
    envelope = trade_envelope()
    assert leaf(msgspec.structs.replace(envelope, attachments=())) == leaf(envelope)


def test_round_trip() -> None:
    envelope = trade_envelope()
    voucher = Voucher(envelope.body, envelope.signatures[0], *envelope.attachments)
    for value in (envelope, voucher):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value)) == value


@pytest.mark.parametrize(
    "envelope",
    [
        ["trade", b"", [b"s" * 63], []],
        ["trade", b"", [b"s" * 64] * 3, []],
        ["trade", b"", [], [b""] * 3],
        ["trade", bytes(16_385), [], []],
        ["t" * 17, b"", [], []],
        ["trade", b"", [], [], b"more"],
        ["trade", b"", []],
    ],
    ids=range(7),
)
def test_limits(envelope: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(envelope), type=Envelope)
