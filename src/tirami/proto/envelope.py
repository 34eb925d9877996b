"""Envelopes: a record body with its signatures and the evidence it cites."""

from typing import Annotated

import msgspec

from tirami.proto.codec import MAX_BODY, Bytes64

Body = Annotated[bytes, msgspec.Meta(max_length=MAX_BODY)]


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A settled record.

    Attributes:
        kind: ``trade`` (signed by payer, provider), ``grant`` (issuer) or ``transfer`` (payer).
        body: canonical bytes.
        signatures: over ``tag ‖ body``, in the order above.
        attachments: evidence bound by hashes inside the body; of a trade its acceptance and that one's signature.
    """

    kind: Annotated[str, msgspec.Meta(max_length=16)]
    body: Body
    signatures: Annotated[tuple[Bytes64, ...], msgspec.Meta(max_length=2)]
    attachments: Annotated[tuple[Body, ...], msgspec.Meta(max_length=2)]


class Voucher(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A trade at some count, signed by the payer alone, with the acceptance it stands under."""

    trade_body: Body
    payer_signature: Bytes64
    acceptance_body: Body
    acceptance_signature: Bytes64


def leaf(envelope: Envelope) -> bytes:
    """What the log hashes: body ‖ signatures."""
    return envelope.body + b"".join(envelope.signatures)
