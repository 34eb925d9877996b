"""What the holder of a key orders about it, signed, and passed on unchanged (B13, A-31)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import msgspec

from tirami.core.keys import PublicKey, Signature, Signer
from tirami.proto.codec import U64, Bytes32, Bytes64, Name, Record, sign


class KillOrder(Record, frozen=True):
    """An operator freezes or releases its own nodes: those that name its key.

    Attributes:
        number: rising with every order of this operator's key, its time in ms or little more; a lower one is old, one
            of the far future is not carried out.
        active: freeze, or release.
        expires_ms: from which on the order is not carried out any more; what it did stays.
    """

    TAG: ClassVar[bytes] = b"tirami/1/kill"

    network: Name
    operator: Bytes32
    number: U64
    active: bool
    reason: Annotated[str, msgspec.Meta(max_length=512)]
    expires_ms: U64
    at_ms: U64


class KillAnswer(Record, frozen=True):
    """What a node says of its operator's order, to whoever gave it.

    Attributes:
        obeyed: whether its switch stands now as it was ordered.
        reason: why not; empty where it does.
    """

    TAG: ClassVar[bytes] = b"tirami/1/kill-answer"

    network: Name
    operator: Bytes32
    number: U64
    node: Bytes32
    obeyed: bool
    reason: Annotated[str, msgspec.Meta(max_length=256)]
    at_ms: U64


class Consent(Record, frozen=True):
    """What a successor signs: that it follows this key."""

    TAG: ClassVar[bytes] = b"tirami/1/consent"

    network: Name
    key: Bytes32
    successor: Bytes32


class Rotation(Record, frozen=True):
    """The last order of a key, signed by it: who follows, or that nobody does (A-31).

    Attributes:
        successor: the key that follows; 32 zero bytes revoke.
        consent: the successor's signature under its :class:`Consent`; 64 zero bytes in a revocation.
        last_incarnation, last_number: of its debits. Everything up to there stays what it is.
    """

    TAG: ClassVar[bytes] = b"tirami/1/rotation"

    network: Name
    key: Bytes32
    successor: Bytes32
    consent: Bytes64
    last_incarnation: U64
    last_number: U64
    at_ms: U64


NO_SUCCESSOR = bytes(32)
"""Successor of a revoked key."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A key that follows another, and its signature that it does; its secret stays where it was made."""

    key: PublicKey
    consent: Signature

    @classmethod
    def agreeing(cls, network: str, key: PublicKey, successor: Signer) -> Self:
        """``successor`` agrees to follow ``key``."""
        consent = Consent(network=network, key=key, successor=successor.public_key)
        return cls(successor.public_key, sign(consent, successor))


def rotation(network: str, key: Signer, successor: Successor | None, last: tuple[int, int], at_ms: int) -> Rotation:
    """The order that ``key`` signs.

    Args:
        successor: ``None`` revokes.
        last: (incarnation, number) of the key's last debit.
    """
    return Rotation(
        network=network,
        key=key.public_key,
        successor=NO_SUCCESSOR if successor is None else successor.key,
        consent=bytes(64) if successor is None else successor.consent,
        last_incarnation=last[0],
        last_number=last[1],
        at_ms=at_ms,
    )
