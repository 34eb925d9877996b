"""Messages of range-based set reconciliation: what two holders of record ids say until both know the difference.

A range holds the ids ``lower`` ≤ id < ``upper``, compared as byte strings; an empty ``upper`` is the end of all ids. A
bound is the shortest prefix that does its work. Source: A. Meyer, "Range-Based Set Reconciliation" (2022).
"""

from itertools import pairwise
from typing import Annotated

import msgspec

from tirami.core.errors import InvalidReconciliation
from tirami.proto.codec import Bytes16, Bytes32

MAX_MESSAGE = 64 * 1024
MAX_RANGES = 1024
MAX_IDS = 1800
"""Ids in all ranges of one message together."""

Bound = Annotated[bytes, msgspec.Meta(max_length=32)]
Ids = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_IDS)]
"""Ascending, each once."""


class Fingerprint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=0):
    """ "Mine in this range hash to this": equal ones need no answer, unequal ones are taken apart."""

    lower: Bound
    upper: Bound
    fingerprint: Bytes16


class Listing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """All the ids the sender has in this range."""

    lower: Bound
    upper: Bound
    ids: Ids


class Difference(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """The answer to a listing, or to a part of its range; needs none itself."""

    lower: Bound
    upper: Bound
    offered: Ids
    """Those the sender has and the listing had not."""
    wanted: Ids
    """Those of the listing the sender has not."""


Range = Fingerprint | Listing | Difference


class ReconciliationMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Ranges in ascending order that do not overlap; ``more`` when the sender has further ones for its next turn."""

    ranges: Annotated[tuple[Range, ...], msgspec.Meta(max_length=MAX_RANGES)]
    more: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ReconciliationMessage)


def encode_message(message: ReconciliationMessage) -> bytes:
    return _encoder.encode(message)


def decode_message(data: bytes) -> ReconciliationMessage:
    """A message whose every range is well formed. Raises ``InvalidReconciliation`` naming what is not."""
    if len(data) > MAX_MESSAGE:
        raise InvalidReconciliation(f"a message has at most {MAX_MESSAGE} bytes", param="message")
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidReconciliation(f"not a message: {error}", param="message") from error
    _check(message)
    return message


def _check(message: ReconciliationMessage) -> None:
    reached, total = b"", 0
    for place, part in enumerate(message.ranges):
        if part.upper and part.lower >= part.upper:
            raise InvalidReconciliation("a range ends before it begins", param="upper")
        if place and (not reached or part.lower < reached):
            raise InvalidReconciliation("the ranges overlap or are out of order", param="lower")
        reached = part.upper
        match part:
            case Listing(ids=ids):
                total += _ids(part, ids)
            case Difference(offered=offered, wanted=wanted):
                total += _ids(part, offered) + _ids(part, wanted)
    if total > MAX_IDS:
        raise InvalidReconciliation(f"a message has at most {MAX_IDS} ids", param="ids")


def _ids(part: Range, ids: tuple[bytes, ...]) -> int:
    if any(former >= latter for former, latter in pairwise(ids)):
        raise InvalidReconciliation("ids are in ascending order, each once", param="ids")
    if ids and (ids[0] < part.lower or (part.upper and ids[-1] >= part.upper)):
        raise InvalidReconciliation("an id lies outside its range", param="ids")
    return len(ids)
