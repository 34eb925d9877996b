"""Canonical MessagePack: one record, one sequence of bytes.

A record is an array in declaration order with minimal integers. Decoders of MessagePack accept more than one
spelling, so a body is accepted only when re-encoding gives back the very bytes that came. What is signed is
``tag ‖ body``; tags end in a name, bodies begin with an array marker, so no two kinds of record can collide.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, TypeVar

import msgspec

from tirami.core.errors import NonCanonical
from tirami.core.keys import Digest, PublicKey, Signature, Signer, sha256
from tirami.core.keys import verify as verify_bytes

MAX_BODY = 16 * 1024

U64 = Annotated[int, msgspec.Meta(ge=0)]
"""0 … 2⁶⁴ − 1: the encoder itself refuses more."""
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
NAME_PATTERN = r"^[a-z0-9-]{1,64}\Z"
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
"""Id of a network."""


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything signed; ``TAG`` separates the domains."""

    TAG: ClassVar[bytes] = b""


R = TypeVar("R", bound=Record)
_encoder = msgspec.msgpack.Encoder()


@lru_cache(maxsize=64)
def _decoder(cls: type[R]) -> "msgspec.msgpack.Decoder[R]":
    return msgspec.msgpack.Decoder(cls)


def encode(record: Record) -> bytes:
    """The canonical body. Raises ``NonCanonical`` when a field is out of range: nobody may sign such a record."""
    cls = type(record)
    try:
        body = _encoder.encode(record)
        _decoder(cls).decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise NonCanonical(f"no canonical form of this {cls.__name__}: {error}") from error
    return body


def decode(cls: type[R], body: bytes) -> R:
    """Strict inverse of :func:`encode`. Raises ``NonCanonical`` for any other bytes."""
    if len(body) > MAX_BODY:
        raise NonCanonical(f"a record body has at most {MAX_BODY} bytes")
    try:
        record: R = _decoder(cls).decode(body)
        again = _encoder.encode(record)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise NonCanonical(f"not a {cls.__name__}: {error}") from error
    if again != body:
        raise NonCanonical(f"these bytes are not the canonical form of their {cls.__name__}")
    return record


def signing_bytes(record: Record) -> bytes:
    return record.TAG + encode(record)


def record_id(record: Record) -> Digest:
    """SHA-256(tag ‖ body); signatures stand outside, so no countersigner can change it."""
    return sha256(signing_bytes(record))


def sign(record: Record, signer: Signer) -> Signature:
    return signer.sign(signing_bytes(record))


@dataclass(frozen=True, slots=True)
class Signed:
    """A record encoded and signed once: its canonical body, its id and the signature."""

    body: bytes
    record_id: Digest
    signature: Signature


def signed(record: Record, signer: Signer) -> Signed:
    """Encode, name and sign in one go, for paths where encoding three times would show."""
    body = encode(record)
    message = record.TAG + body
    return Signed(body, sha256(message), signer.sign(message))


def verify(record: Record, key: PublicKey, signature: Signature) -> bool:
    return verify_bytes(key, signature, signing_bytes(record))
