"""What came of calling a node, signed by who called (L0-07): what availability is shown with. Never a record."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes32, Name, Record
from tirami.proto.message import Label


class Probe(Record, frozen=True):
    """One node called another, as somebody it does not know.

    Attributes:
        observer, observed: who called whom.
        addresses: where; they were tried together.
        reached: whether the observed proved its key there.
        rtt_us: how long that took, µs; 0 when it did not.
    """

    TAG: ClassVar[bytes] = b"tirami/1/probe"

    network: Name
    observer: Bytes32
    observed: Bytes32
    addresses: Annotated[tuple[Label, ...], msgspec.Meta(min_length=1, max_length=2)]
    reached: bool
    rtt_us: Annotated[int, msgspec.Meta(ge=0, le=60_000_000)]
    at_ms: U64
