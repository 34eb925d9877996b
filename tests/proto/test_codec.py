"""Canonical MessagePack: one record, one sequence of bytes, and nothing else is one."""

import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proto.samples import ACCEPTANCE, SAMPLES, SIGNERS, TRADE
from tirami.core.errors import NonCanonical
from tirami.core.keys import PublicKey, Signature, SigningKey, sha256
from tirami.proto import (
    RECORDS,
    Acceptance,
    Open,
    Record,
    Trade,
    Transfer,
    decode,
    encode,
    record_id,
    sign,
    signing_bytes,
    verify,
)
from tirami.proto.codec import MAX_BODY

U64 = st.integers(0, 2**64 - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=64)
SIZES = {"nonce": 16, "log_id": 16}


def values(name: str, kind: object) -> st.SearchStrategy[Any]:
    if name == "network":
        return NAMES
    if name == "open":
        return st.lists(st.builds(Open, U64, U64), max_size=32).map(tuple)
    if bytes in getattr(kind, "__args__", ()) or "bytes" in str(kind):
        return st.binary(min_size=SIZES.get(name, 32), max_size=SIZES.get(name, 32))
    return U64


def records(cls: type[Record]) -> st.SearchStrategy[Record]:
    return st.builds(cls, **{name: values(name, kind) for name, kind in cls.__annotations__.items() if name != "TAG"})


ANY_RECORD = st.one_of([records(cls) for cls in RECORDS])


def pack(value: object) -> bytes:
    """Canonical MessagePack by hand, from the format's specification: the judge of the encoder."""
    match value:
        case int():
            for limit, marker, form in (
                (1 << 8, 0xCC, ">B"),
                (1 << 16, 0xCD, ">H"),
                (1 << 32, 0xCE, ">I"),
                (1 << 64, 0xCF, ">Q"),
            ):
                if value < 128:
                    return bytes([value])
                if value < limit:
                    return bytes([marker]) + struct.pack(form, value)
            raise OverflowError
        case bytes():
            assert len(value) < 256
            return bytes([0xC4, len(value)]) + value
        case str():
            data = value.encode()
            return (bytes([0xA0 | len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data
        case tuple():
            mark = bytes([0x90 | len(value)]) if len(value) < 16 else bytes([0xDC]) + struct.pack(">H", len(value))
            return mark + b"".join(pack(item) for item in value)
        case msgspec.Struct():
            return pack(tuple(getattr(value, name) for name in value.__struct_fields__))
    raise TypeError(value)


@given(ANY_RECORD)
def test_round_trip_and_bytes_by_hand(record: Record) -> None:
    body = encode(record)
    assert body == pack(record)
    assert decode(type(record), body) == record
    assert encode(decode(type(record), body)) == body


@given(ANY_RECORD, st.binary(max_size=200))
def test_other_bytes_are_refused_or_say_something_else(record: Record, junk: bytes) -> None:
    body = encode(record)
    for other in (junk, body + junk, junk + body):
        if other == body:
            continue
        try:
            found = decode(type(record), other)
        except NonCanonical:
            continue
        assert found != record
        assert record_id(found) != record_id(record)


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_every_single_bit_counts(record: Record) -> None:
    body, own = encode(record), record_id(record)
    for bit in range(len(body) * 8):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = decode(type(record), bytes(changed))
        except NonCanonical:
            continue
        assert found != record
        assert record_id(found) != own


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_every_cut_and_every_addition_is_refused(record: Record) -> None:
    body = encode(record)
    for other in (*(body[:length] for length in range(len(body))), body + b"\0", body + body, b"\0" + body):
        with pytest.raises(NonCanonical):
            decode(type(record), other)


def spelled(body: bytes, old: bytes, new: bytes) -> bytes:
    assert body.count(old) == 1, "the sample must hold it once"
    return body.replace(old, new)


TRANSFER = Transfer(
    network="x",
    scope=0,
    payer=b"\xf0" * 32,
    to=b"\xf1" * 32,
    incarnation=0,
    number=77,
    settled=200,
    open=(Open(5, 6),),
    amount=40_000,
    at_ms=70_000,
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"\x4d", b"\xcc\x4d", id="77 in 8 bits"),
        pytest.param(b"\x4d", b"\xcd\x00\x4d", id="77 in 16 bits"),
        pytest.param(b"\x4d", b"\xce\x00\x00\x00\x4d", id="77 in 32 bits"),
        pytest.param(b"\x4d", b"\xcf" + bytes(7) + b"\x4d", id="77 in 64 bits"),
        pytest.param(b"\x4d", b"\xd0\x4d", id="77 signed"),
        pytest.param(b"\x4d", b"\xd3" + bytes(7) + b"\x4d", id="77 signed in 64 bits"),
        pytest.param(b"\x4d", b"\xcb" + struct.pack(">d", 77.0), id="77 as a float"),
        pytest.param(b"\x4d", b"\xa277", id="77 as text"),
        pytest.param(b"\x4d", b"\xff", id="negative"),
        pytest.param(b"\x4d", b"\xc0", id="nil"),
        pytest.param(b"\x4d", b"\xc3", id="true"),
        pytest.param(b"\x4d", b"\x91\x4d", id="77 in a list"),
        pytest.param(b"\xcc\xc8", b"\xcd\x00\xc8", id="200 in 16 bits"),
        pytest.param(b"\xcd\x9c\x40", b"\xce\x00\x00\x9c\x40", id="40000 in 32 bits"),
        pytest.param(b"\xce\x00\x01\x11\x70", b"\xcf\x00\x00\x00\x00\x00\x01\x11\x70", id="70000 in 64 bits"),
        pytest.param(b"\xa1x", b"\xd9\x01x", id="name with a long length"),
        pytest.param(b"\xa1x", b"\xc4\x01x", id="name as bytes"),
        pytest.param(b"\xa1x", b"\xa1X", id="upper-case name"),
        pytest.param(b"\xa1x", b"\xa2x\n", id="name with a newline"),
        pytest.param(b"\xa1x", b"\xa0", id="empty name"),
        pytest.param(b"\xa1x", b"\xd9\x41" + b"x" * 65, id="name of 65"),
        pytest.param(b"\xa1x", b"\xa1\xff", id="name that is no UTF-8"),
        pytest.param(b"\xc4\x20\xf0", b"\xc5\x00\x20\xf0", id="bytes with a long length"),
        pytest.param(b"\xc4\x20\xf0", b"\xc4\x21\xf0\xf0", id="33 bytes"),
        pytest.param(b"\xc4\x20\xf0", b"\xd9\x20\xf0", id="bytes as text"),
        pytest.param(b"\x91\x92\x05\x06", b"\xdc\x00\x01\x92\x05\x06", id="list with a long length"),
        pytest.param(b"\x91\x92\x05\x06", b"\x91\x93\x05\x06\x07", id="three in an open session"),
        pytest.param(b"\x91\x92\x05\x06", b"\x91\x91\x05", id="one in an open session"),
        pytest.param(b"\x91\x92\x05\x06", b"\x91\x82\x05\x06\x07\x08", id="a map"),
        pytest.param(b"\x9a\xa1x", b"\xdc\x00\x0a\xa1x", id="record with a long length"),
    ],
)
def test_one_spelling(old: bytes, new: bytes) -> None:
    body = encode(TRANSFER)
    with pytest.raises(NonCanonical):
        decode(Transfer, spelled(body, old, new))


def test_33_open_sessions_are_too_many() -> None:
    acceptance = msgspec.structs.replace(ACCEPTANCE, open=(Open(1, 1),) * 32)
    assert decode(Acceptance, encode(acceptance)) == acceptance
    with pytest.raises(NonCanonical):
        encode(msgspec.structs.replace(ACCEPTANCE, open=(Open(1, 1),) * 33))


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": -1},
        {"amount": 2**64},
        {"amount": True},
        {"amount": 1.0},
        {"amount": None},
        {"network": ""},
        {"network": "Regtest"},
        {"network": "r" * 65},
        {"payer": b"\0" * 31},
        {"payer": "00" * 16},
        {"running_hash": b""},
    ],
    ids=str,
)
def test_nobody_can_sign_what_nobody_could_read(fields: dict[str, object]) -> None:
    record = msgspec.structs.replace(TRADE, **fields)
    for use in (encode, signing_bytes, record_id):
        with pytest.raises(NonCanonical):
            use(record)
    with pytest.raises(NonCanonical):
        sign(record, SigningKey.generate())


@pytest.mark.parametrize("size", [MAX_BODY + 1, 10 * MAX_BODY])
def test_large_bodies_are_refused_unread(size: int) -> None:
    with pytest.raises(NonCanonical, match=str(MAX_BODY)):
        decode(Trade, bytes(size))


def test_nesting_cannot_exhaust_the_decoder() -> None:
    with pytest.raises(NonCanonical):
        decode(Trade, b"\x91" * MAX_BODY)


def test_signatures_are_bound_to_the_kind_of_record() -> None:
    for record in SAMPLES:
        signer = SIGNERS[type(record)]
        signature = sign(record, signer)
        assert signature == signer.sign(record.TAG + encode(record))
        assert verify(record, signer.public_key, signature)
        assert not verify(record, signer.public_key, signer.sign(encode(record))), "without tag"
        for other in SAMPLES:
            if other is not record:
                assert not verify(record, signer.public_key, signer.sign(other.TAG + encode(record)))


def test_tags_are_different_and_none_begins_another() -> None:
    tags = [cls.TAG for cls in RECORDS]
    assert len(set(tags)) == len(tags)
    for tag in tags:
        assert tag.startswith(b"tirami/1/")
        assert not any(other is not tag and other.startswith(tag) for other in tags)


def test_ids_do_not_depend_on_signatures() -> None:
    assert record_id(TRADE) == sha256(b"tirami/1/trade", encode(TRADE))
    assert len({record_id(record) for record in SAMPLES}) == len(SAMPLES)


def test_verify_is_strict_about_lengths() -> None:
    assert not verify(TRADE, PublicKey(b""), Signature(b""))
