"""Offline check of a fraud proof: who is guilty of what, by that key's own signatures alone (PROTOCOL B8).

What proves nothing, and is refused: several vouchers of one session, two signatures over one body, numbers of
different incarnations, anything that is silence, a time or a lack of funds, and records of two keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tirami.core.errors import InvalidProof, InvalidSignature, NonCanonical, VerificationError
from tirami.core.keys import Digest, PublicKey, Signature, sha256
from tirami.core.keys import verify as verify_signature
from tirami.proto import Head, Record, decode
from tirami.proto.fraud import CITED, Cited, FraudKind, FraudProof, parse_fraud
from tirami.verify.claim import Claim, claim_of
from tirami.verify.merkle import verify_consistency


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a valid fraud proof proves.

    Attributes:
        guilty: the key that signed all of it.
        role: as what: ``payer``, ``issuer`` or ``log``.
        offence: the contradiction, in words.
        evidence_id: SHA-256 of the file.
    """

    guilty: PublicKey
    role: str
    kind: FraudKind
    network: str
    offence: str
    evidence_id: Digest
    records: tuple[Record, ...]


def verify_fraud(data: bytes) -> Verdict:
    """Check every byte of a fraud proof.

    Raises:
        InvalidSignature: a record is not signed by the key that is accused; ``param`` names it.
        InvalidProof: the file is none, or its records do not contradict each other.
    """
    proof = parse_fraud(data)
    guilty = PublicKey(bytes.fromhex(proof.guilty))
    cited = [record.cited for record in proof.records]
    records = tuple(_signed(one, f"records[{place}]", guilty, proof.network) for place, one in enumerate(cited))
    if bool(proof.path) != (proof.kind == "rewritten-log"):
        raise InvalidProof("a rewritten log is proved by a path, and nothing else is", param="path")
    if proof.kind in ("two-heads", "rewritten-log"):
        role, offence = "log", _log(proof, records, cited)
    else:
        claims = _claims(records)
        role, offence = claims[0].series[1], _numbers(proof.kind, claims, cited)
    return Verdict(guilty, role, proof.kind, proof.network, offence, sha256(data), records)


def _signed(cited: Cited, place: str, guilty: PublicKey, network: str) -> Record:
    cls = CITED[cited.kind]
    try:
        record = decode(cls, cited.body)
    except NonCanonical as error:
        raise InvalidProof(error.message, param=place) from error
    if not verify_signature(guilty, Signature(cited.signature), cls.TAG + cited.body):
        raise InvalidSignature(f"{place}: the signature of the accused does not verify", param=place)
    signer = record.node if isinstance(record, Head) else None
    if claim := claim_of(record):
        signer = claim.series[0]
    if signer != guilty:
        raise InvalidProof("the record speaks for another key than the accused", param=place)
    if getattr(record, "network", None) != network:
        raise InvalidProof("the record belongs to another network", param=place)
    return record


def _claims(records: Sequence[Record]) -> list[Claim]:
    claims = [claim for claim in map(claim_of, records) if claim is not None]
    if len(claims) != len(records):
        raise InvalidProof("a head says nothing about numbers", param="records")
    if any(claim.series != claims[0].series for claim in claims):
        raise InvalidProof("numbers of different incarnations, days or roles contradict nothing", param="records")
    return claims


def _numbers(kind: FraudKind, claims: Sequence[Claim], cited: Sequence[Cited]) -> str:
    first, second = claims[0], claims[1]
    if first.settled is None:
        raise InvalidProof("a trade or voucher says nothing about totals", param="records[0]")
    if kind == "totals":
        return _totals(first, claims[1:])
    if len(claims) != 2:
        raise InvalidProof("this kind of proof has two records", param="records")
    if kind == "same-number":
        if second.settled is None:
            raise InvalidProof("several vouchers of one session are no offence", param="records[1]")
        if first.number != second.number:
            raise InvalidProof("the two have different numbers", param="records")
        if not cited[0].body < cited[1].body:
            raise InvalidProof("two different bodies, in ascending order, are needed", param="records")
        return f"gave number {first.number} to two different debits"
    listed = first.open.get(second.number)
    if listed is None:
        raise InvalidProof(f"the first does not list session {second.number} as open", param="records")
    if second.most <= listed:
        raise InvalidProof("the open list covers the session", param="records")
    return (
        f"listed session {second.number} as open with at most {listed} TRM, "
        f"and signed {second.most} TRM for that session"
    )


def _totals(stated: Claim, debits: Sequence[Claim]) -> str:
    assert stated.settled is not None
    if any(former.number >= latter.number for former, latter in pairwise(debits)):
        raise InvalidProof("one debit a number, in ascending order", param="records")
    for place, debit in enumerate(debits, start=1):
        if debit.amount == 0:
            raise InvalidProof("a promise or an empty voucher takes nothing", param=f"records[{place}]")
        if debit.number >= stated.number or debit.number in stated.open:
            raise InvalidProof("the totals need not cover this debit", param=f"records[{place}]")
    total = sum(debit.amount for debit in debits)
    if total <= stated.settled:
        raise InvalidProof("the totals cover these debits", param="records")
    return f"signed under number {stated.number} that it had settled {stated.settled} TRM, after signing {total} TRM"


def _log(proof: FraudProof, records: Sequence[Record], cited: Sequence[Cited]) -> str:
    if len(records) != 2:
        raise InvalidProof("this kind of proof has two records", param="records")
    older, newer = records
    if not isinstance(older, Head) or not isinstance(newer, Head):
        raise InvalidProof("a log is convicted by two heads", param="records")
    if older.log_id != newer.log_id:
        raise InvalidProof("heads of two logs contradict nothing", param="records")
    if proof.kind == "two-heads":
        if older.size != newer.size or older.root == newer.root:
            raise InvalidProof("equal size and different roots are needed", param="records")
        if not cited[0].body < cited[1].body:
            raise InvalidProof("the two bodies stand in ascending order", param="records")
        return f"signed two different roots of its log at {older.size} leaves"
    if older.size >= newer.size:
        raise InvalidProof("the second head is the later one", param="records")
    root, *path = map(bytes.fromhex, proof.path)
    if root == older.root:
        raise InvalidProof("the path starts from the older head's own root", param="path")
    try:
        verify_consistency(older.size, newer.size, root, newer.root, path)
    except VerificationError as error:
        raise InvalidProof(error.message, param="path") from error
    return f"rewrote its log: what it signed at {older.size} leaves is not under what it signed at {newer.size}"
