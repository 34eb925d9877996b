"""What the lies of both sides are made of: which comes next, and signatures under what was not said."""

from collections.abc import Collection, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import msgspec

from tirami.core.keys import Signature, SigningKey
from tirami.proto import SignedBody, decode, encode, sign
from tirami.proto.codec import Record

HONEST: Final = "honest"
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of the group of Ed25519."""


class Turns:
    """Which cheat the next session of one side is.

    Args:
        known: those of this side; a name of the other side's is honesty here.
        cheats: that take turns.
        file: a name in it comes before them.
    """

    def __init__(self, known: Collection[str], cheats: Sequence[str], file: Path) -> None:
        self._known = known
        self._turns = cycle([cheat for cheat in cheats if cheat in known] or [HONEST])
        self._file = file

    def next(self) -> str:
        named = self._file.read_text().strip() if self._file.exists() else ""
        if not named:
            return next(self._turns)
        return named if named in self._known else HONEST


def resigned(kind: type[Record], body: bytes, key: SigningKey, **fields: Any) -> SignedBody:
    """The record with other fields, under a signature of ``key``."""
    other = msgspec.structs.replace(decode(kind, body), **fields)
    return SignedBody(encode(other), sign(other, key))


def bent(signature: bytes) -> Signature:
    """The same with s + L for s: the equation holds, and strict verification refuses it."""
    s = int.from_bytes(signature[32:], "little")
    return Signature(signature[:32] + (s + _ORDER).to_bytes(32, "little"))


def flipped(signature: bytes) -> Signature:
    """The same with one bit of s turned over."""
    return Signature(signature[:32] + bytes([signature[32] ^ 1]) + signature[33:])
