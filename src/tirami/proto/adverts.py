"""Where a node can be found, signed by it, for places anybody may write to. A hint, never a record."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes32, Name, Record

MAX_LIFETIME_MS = 7 * 86_400_000
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Advert(Record, frozen=True):
    """A node of a network and its addresses.

    Attributes:
        addresses: ``HOST:PORT``, as in the hello.
        lifetime_ms: from ``at_ms`` on; after it the advert counts for nothing.
    """

    TAG: ClassVar[bytes] = b"tirami/1/advert"

    network: Name
    node: Bytes32
    addresses: Annotated[tuple[Label, ...], msgspec.Meta(min_length=1, max_length=8)]
    lifetime_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIFETIME_MS)]
    at_ms: U64
