"""What the holder of a key orders about it, signed, and passed on unchanged (B13)."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes32, Name, Record


class KillOrder(Record, frozen=True):
    """An operator freezes or releases its own nodes: those that name its key.

    Attributes:
        number: rising with every order of this operator; a lower one is old.
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
