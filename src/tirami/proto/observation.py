"""What one key says about another's service, signed, and passed on unchanged (L1-17). An opinion, never a record."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes32, Name, Record


class Observation(Record, frozen=True):
    """An observer's newest word about a provider.

    Attributes:
        score_ppm: how far its service is kept, 0 … 10⁶, smoothed by the observer.
        sessions: how many it is said to rest on: for people. What it weighs is what the reader's own book shows.
        latency_ms: to the first word, smoothed.
    """

    TAG: ClassVar[bytes] = b"tirami/1/observation"

    network: Name
    observer: Bytes32
    subject: Bytes32
    score_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    sessions: U64
    latency_ms: U64
    at_ms: U64
