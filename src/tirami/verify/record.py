"""Offline check of one record of a log: it says what its parties signed. Whether it applied is for the fold to say."""

from collections.abc import Sequence
from dataclasses import dataclass

from tirami.core.errors import InvalidProof
from tirami.core.keys import Digest, PublicKey, Signature, sha256
from tirami.core.keys import verify as verify_signature
from tirami.core.units import Trm
from tirami.proto import Grant, Trade, Transfer, decode, parties
from tirami.verify.merkle import leaf_hash

_BODIES: dict[str, type[Trade] | type[Grant] | type[Transfer]] = {"trade": Trade, "grant": Grant, "transfer": Transfer}


@dataclass(frozen=True, slots=True)
class VerifiedRecord:
    """A record signed by those who must: a trade by both of its parties, what is given by its giver.

    ``leaf`` is the hash of its leaf, for :func:`verify_inclusion`.
    """

    record_id: Digest
    body: Trade | Grant | Transfer
    leaf: Digest

    @property
    def amount(self) -> Trm:
        """TRM moved, or the line that a grant opens."""
        return Trm(self.body.limit if isinstance(self.body, Grant) else self.body.amount)


def verify_record(kind: str, body: bytes, signatures: Sequence[bytes]) -> VerifiedRecord:
    """The record of these canonical bytes. Raises ``InvalidProof``, ``NonCanonical``."""
    cls = _BODIES.get(kind)
    if cls is None:
        raise InvalidProof(f"unknown kind of record {kind!r}", param="kind")
    record, message = decode(cls, body), cls.TAG + body
    signers = parties(record)[: 2 if cls is Trade else 1]
    if len(signatures) != len(signers):
        raise InvalidProof(f"a {kind} has {len(signers)} signature{'s' * (len(signers) > 1)}", param="signatures")
    for key, signature in zip(signers, signatures, strict=True):
        if not verify_signature(PublicKey(key), Signature(signature), message):
            raise InvalidProof(f"the signature of {key.hex()} does not verify", param="signatures")
    return VerifiedRecord(sha256(message), record, leaf_hash(body + b"".join(signatures)))
