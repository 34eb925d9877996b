"""The receipt file: one trade, its place in the log and the signed head, as RFC 8785 JSON."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import rfc8785

from tirami.core.errors import InvalidReceipt
from tirami.core.keys import sha256
from tirami.proto.codec import MAX_BODY, decode
from tirami.proto.envelope import Envelope
from tirami.proto.records import Trade

MAX_RECEIPT = 64 * 1024
HexBytes = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})+\Z", max_length=2 * MAX_BODY)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trade for human eyes; must agree with the body."""

    id: Hex32
    network: str
    provider: Hex32
    payer: Hex32
    model_digest: Hex32
    prompt_tokens: Count
    completion_tokens: Count
    amount_trm: Count
    flop: str
    """Decimal text: JSON numbers end at 2⁵³."""
    at_ms: Count


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a stranger needs; byte strings are lowercase hex."""

    format: Literal["tirami/1/receipt"]
    kind: Literal["trade"]
    body: HexBytes
    signatures: Annotated[tuple[Hex64, ...], msgspec.Meta(min_length=2, max_length=2)]
    acceptance: HexBytes
    acceptance_signature: Hex64
    leaf_index: Count
    proof: Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=64)]
    head: HexBytes
    head_signature: Hex64
    trade: Summary


def summary_of(trade: Trade, body: bytes) -> Summary:
    return Summary(
        id=sha256(Trade.TAG, body).hex(),
        network=trade.network,
        provider=trade.provider.hex(),
        payer=trade.payer.hex(),
        model_digest=trade.model_digest.hex(),
        prompt_tokens=trade.prompt_tokens,
        completion_tokens=trade.completion_tokens,
        amount_trm=trade.amount,
        flop=str(trade.flop),
        at_ms=trade.at_ms,
    )


def build_receipt(
    envelope: Envelope, leaf_index: int, proof: Sequence[bytes], head: bytes, head_signature: bytes
) -> bytes:
    """The receipt file of a trade.

    Args:
        envelope: of kind ``trade``, with its acceptance attached.
        leaf_index: place of its leaf in the log, from 0.
        proof: RFC 6962 audit path of that leaf, leaf side first.
        head: canonical body of the :class:`Head` the path leads to.
        head_signature: the log node's, over it.

    Raises:
        InvalidReceipt: the parts cannot be written as a receipt. Whether they are *true* is ``tirami.verify``'s.
    """
    if envelope.kind != "trade" or len(envelope.signatures) != 2 or len(envelope.attachments) != 2:
        raise InvalidReceipt("only a trade with both signatures and its acceptance has a receipt")
    return serialise(
        Receipt(
            format="tirami/1/receipt",
            kind="trade",
            body=envelope.body.hex(),
            signatures=tuple(signature.hex() for signature in envelope.signatures),
            acceptance=envelope.attachments[0].hex(),
            acceptance_signature=envelope.attachments[1].hex(),
            leaf_index=leaf_index,
            proof=tuple(node.hex() for node in proof),
            head=head.hex(),
            head_signature=head_signature.hex(),
            trade=summary_of(decode(Trade, envelope.body), envelope.body),
        )
    )


def serialise(receipt: Receipt) -> bytes:
    """RFC 8785 form. Raises ``InvalidReceipt`` when a number is beyond 2⁵³ − 1, where JSON ends."""
    try:
        return rfc8785.dumps(msgspec.to_builtins(receipt))
    except rfc8785.CanonicalizationError as error:
        raise InvalidReceipt(f"this receipt has no RFC 8785 form: {error}") from error


def parse_receipt(data: bytes) -> Receipt:
    """Raises ``InvalidReceipt`` unless ``data`` is exactly the RFC 8785 form of a receipt."""
    if len(data) > MAX_RECEIPT:
        raise InvalidReceipt(f"a receipt has at most {MAX_RECEIPT} bytes")
    try:
        receipt = msgspec.json.decode(data, type=Receipt)
        again = serialise(receipt)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidReceipt(f"not a receipt: {error}") from error
    if again != data:
        raise InvalidReceipt("these bytes are not the RFC 8785 form of their receipt")
    return receipt
