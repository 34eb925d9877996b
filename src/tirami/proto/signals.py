"""What a provider says about itself, signed, and passed on unchanged (L1-10, L1-14). An opinion, never a record."""

from typing import Annotated, ClassVar

import msgspec

from tirami.proto.codec import U64, Bytes32, Name, Record

MAX_MODELS = 64
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Offering(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A model and its price, µTRM a token. The card's numbers are for people and for the FLOP formula."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    model_digest: Bytes32
    tokenizer_digest: Bytes32
    context_length: U64
    parameters: U64
    active_parameters: U64
    layers: U64
    hidden: U64
    quantization: Label
    price_in: U64
    price_out: U64


class Signal(Record, frozen=True):
    """Who serves what, at what price, and how much of it is free.

    Attributes:
        demand_ppm: the load factor its prices contain, parts per million.
        free_tokens: completion tokens it can make within the next minute, as its engines measured.
        slots: answers at a time it has free for strangers.
        audit_tier: 0 … 3 (spec 02 §10).
        features: as in the hello.
        lifetime_ms: from ``at_ms`` on; after it the signal counts for nothing.
    """

    TAG: ClassVar[bytes] = b"tirami/1/signal"

    network: Name
    node: Bytes32
    demand_ppm: U64
    free_tokens: U64
    slots: U64
    audit_tier: Annotated[int, msgspec.Meta(ge=0, le=3)]
    features: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)]
    models: Annotated[tuple[Offering, ...], msgspec.Meta(max_length=MAX_MODELS)]
    lifetime_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)]
    at_ms: U64
