"""The fraud proof file: signed records that no honest key signs together, as RFC 8785 JSON (PROTOCOL B8)."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import rfc8785

from tirami.core.errors import InvalidProof
from tirami.proto.codec import NAME_PATTERN, Record
from tirami.proto.envelope import Envelope, Voucher
from tirami.proto.receipt import Hex32, Hex64, HexBytes
from tirami.proto.records import Acceptance, Grant, Head, Trade, Transfer

MAX_CITED = 1025
"""Records of a proof: one total, and at most 1 024 debits that exceed it."""
MAX_FRAUD = 4 << 20

FraudKind = Literal["same-number", "totals", "ceiling", "two-heads", "rewritten-log"]
CitedKind = Literal["acceptance", "trade", "transfer", "grant", "head"]
CITED: dict[CitedKind, type[Record]] = {
    "acceptance": Acceptance,
    "trade": Trade,
    "transfer": Transfer,
    "grant": Grant,
    "head": Head,
}


class Cited(NamedTuple):
    """A record as its key signed it: canonical body and that key's signature. A voucher is a ``trade``."""

    kind: CitedKind
    body: bytes
    signature: bytes


def cited_in(settled: Envelope | Voucher) -> tuple[Cited, ...]:
    """What the payer or issuer of an admitted record, or of a voucher, has signed there."""
    match settled:
        case Voucher():
            acceptance = Cited("acceptance", settled.acceptance_body, settled.acceptance_signature)
            return acceptance, Cited("trade", settled.trade_body, settled.payer_signature)
        case Envelope(kind="trade", attachments=(acceptance_body, acceptance_signature)):
            acceptance = Cited("acceptance", acceptance_body, acceptance_signature)
            return acceptance, Cited("trade", settled.body, settled.signatures[0])
        case Envelope(kind="transfer"):
            return (Cited("transfer", settled.body, settled.signatures[0]),)
        case Envelope(kind="grant"):
            return (Cited("grant", settled.body, settled.signatures[0]),)
    return ()


class FraudRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cited record; byte strings are lowercase hex."""

    kind: CitedKind
    body: HexBytes
    signature: Hex64

    @property
    def cited(self) -> Cited:
        return Cited(self.kind, bytes.fromhex(self.body), bytes.fromhex(self.signature))


class FraudProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a stranger needs to convict one key; the order of ``records`` is laid down by ``kind``."""

    format: Literal["tirami/1/fraud"]
    kind: FraudKind
    network: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    guilty: Hex32
    records: Annotated[tuple[FraudRecord, ...], msgspec.Meta(min_length=2, max_length=MAX_CITED)]
    path: Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=65)]


def build_fraud(
    kind: FraudKind, network: str, guilty: bytes, records: Sequence[Cited], path: Sequence[bytes] = ()
) -> bytes:
    """The file. Looks at nothing: whether it proves anything is ``tirami.verify``'s to say.

    Args:
        records: in the order of ``kind``.
        path: of a rewritten log, the root that its later head has for the older size, then the RFC 6962 path.
    """
    cited = tuple(FraudRecord(kind=one.kind, body=one.body.hex(), signature=one.signature.hex()) for one in records)
    return serialise_fraud(
        FraudProof(
            format="tirami/1/fraud",
            kind=kind,
            network=network,
            guilty=guilty.hex(),
            records=cited,
            path=tuple(node.hex() for node in path),
        )
    )


def serialise_fraud(proof: FraudProof) -> bytes:
    return rfc8785.dumps(msgspec.to_builtins(proof))


def parse_fraud(data: bytes) -> FraudProof:
    """Raises ``InvalidProof`` unless ``data`` is exactly the RFC 8785 form of a fraud proof."""
    if len(data) > MAX_FRAUD:
        raise InvalidProof(f"a fraud proof has at most {MAX_FRAUD} bytes", param="file")
    try:
        proof = msgspec.json.decode(data, type=FraudProof)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidProof(f"not a fraud proof: {error}", param="file") from error
    if serialise_fraud(proof) != data:
        raise InvalidProof("these bytes are not the RFC 8785 form of their fraud proof", param="file")
    return proof


class _Accusation(msgspec.Struct):
    guilty: str = ""


def accused(data: bytes) -> bytes:
    """The key a file accuses, be it a proof or not: nothing of it is checked. Empty for none."""
    try:
        return bytes.fromhex(msgspec.json.decode(data, type=_Accusation).guilty)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b""


class _Format(msgspec.Struct):
    format: str = ""


def is_fraud(data: bytes) -> bool:
    """Whether a file says of itself that it is a fraud proof, good or bad."""
    try:
        return msgspec.json.decode(data, type=_Format).format == "tirami/1/fraud"
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
