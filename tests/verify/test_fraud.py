"""Fraud proofs offline: what convicts, what does not, and every byte counts."""

import json
from collections.abc import Callable

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.promised import acceptance, cited
from tests.proto.samples import AGENT, TRADE
from tests.verify.frauds import A1, GOOD, NO_PROOF, TOTALS, ordered, proof
from tirami.core.errors import InvalidProof, InvalidSignature, VerificationError
from tirami.core.keys import sha256
from tirami.proto.fraud import MAX_FRAUD
from tirami.verify.fraud import verify_fraud


@pytest.mark.parametrize(("data", "role"), GOOD.values(), ids=GOOD)
def test_what_convicts(data: bytes, role: str) -> None:
    verdict = verify_fraud(data)
    document = json.loads(data)
    assert verdict.guilty.hex() == document["guilty"]
    assert (verdict.role, verdict.kind, verdict.network) == (role, document["kind"], "regtest")
    assert verdict.evidence_id == sha256(data)
    assert len(verdict.records) == len(document["records"])
    assert verdict.offence


@pytest.mark.parametrize(("data", "words"), NO_PROOF.values(), ids=NO_PROOF)
def test_what_does_not(data: bytes, words: str) -> None:
    with pytest.raises(InvalidProof, match=words) as caught:
        verify_fraud(data)
    assert caught.value.param


def test_signatures_are_the_accused_keys_own() -> None:
    """Under a rotated or any other key a record is invalid, not a proof against either."""
    forged = cited(acceptance(1, 5), AGENT)
    for data in (proof("same-number", *ordered(A1, forged)), proof("same-number", *ordered(A1, forged), key=AGENT)):
        with pytest.raises(InvalidSignature, match="accused") as caught:
            verify_fraud(data)
        assert caught.value.param
    assert caught.value.param.startswith("records[")


def _swap(name: str, value: object) -> Callable[[dict[str, object]], object]:
    return lambda document: document | {name: value}


FILES = {
    "a later format": _swap("format", "tirami/2/fraud"),
    "a foreign field": _swap("colour", "red"),
    "another kind": _swap("kind", "unfunded"),
    "no records": _swap("records", []),
    "another key": _swap("guilty", AGENT.public_key.hex()),
    "another network": _swap("network", "other"),
    "an array": lambda document: [document],
}


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_files_that_are_none(change: Callable[[dict[str, object]], object]) -> None:
    with pytest.raises(VerificationError):
        verify_fraud(rfc8785.dumps(change(json.loads(TOTALS))))  # type: ignore[arg-type]


def test_one_spelling() -> None:
    for data in (TOTALS + b"\n", json.dumps(json.loads(TOTALS)).encode(), b"\xff", b"", bytes(MAX_FRAUD + 1)):
        with pytest.raises(InvalidProof):
            verify_fraud(data)


def test_bodies_have_one_spelling() -> None:
    document = json.loads(TOTALS)
    document["records"][0]["body"] = "dc000b" + document["records"][0]["body"][2:]
    with pytest.raises(InvalidProof, match="canonical") as caught:
        verify_fraud(rfc8785.dumps(document))
    assert caught.value.param == "records[0]"


@given(st.integers(0, len(TOTALS) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    broken = bytearray(TOTALS)
    broken[place] ^= change
    with pytest.raises(VerificationError):
        verify_fraud(bytes(broken))


def test_a_trade_need_not_be_settled_to_count() -> None:
    """A voucher, signed by the payer alone, and the settled trade are the same bytes and the same signature."""
    settled = cited(TRADE)
    assert verify_fraud(proof("totals", cited(acceptance(TRADE.session + 1)), settled)).role == "payer"
