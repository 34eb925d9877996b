"""What a record must be to enter the book, and what it then demands: every reason to refuse one, by its field."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.proto.samples import ACCEPTANCE, AGENT, AT, GRANT, NETWORK, NODE, PAYER, TRADE, TRANSFER, trade_envelope
from tirami.core.errors import InvalidProof, InvalidSignature, NonCanonical
from tirami.core.keys import SigningKey
from tirami.ledger import Debit, admit, key_account, local_account
from tirami.ledger.accounts import LINES, quota_account
from tirami.ledger.admission import read
from tirami.proto import Envelope, Open, Record, encode, record_id, sign

KINDS = {"transfer": (TRANSFER, NODE), "grant": (GRANT, NODE)}


def envelope(kind: str, signer: SigningKey | None = None, **changed: Any) -> Envelope:
    record, owner = KINDS[kind]
    body: Record = msgspec.structs.replace(record, **changed)
    return Envelope(kind, encode(body), (sign(body, signer or owner),), ())


def refused(kind: str, error: type[Exception], param: str, **changed: Any) -> None:
    with pytest.raises(error) as caught:
        admit(envelope(kind, **changed), NETWORK)
    assert caught.value.param == param  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"network": "othernet"}, "network"),
        ({"to": NODE.public_key}, "amount"),
        ({"amount": 0}, "amount"),
        ({"scope": 1}, "amount"),
        ({"scope": 2}, "amount"),
    ],
)
def test_a_transfer_is_refused_by_its_field(changed: dict[str, Any], param: str) -> None:
    refused("transfer", InvalidProof, param, **changed)


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"network": "othernet"}, "network"),
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
        ({"period": GRANT.period + 1}, "period"),
        ({"period": GRANT.period - 1}, "period"),
    ],
)
def test_a_grant_is_refused_by_its_field(changed: dict[str, Any], param: str) -> None:
    refused("grant", InvalidProof, param, **changed)


def test_a_grantor_must_be_an_issuer() -> None:
    with pytest.raises(InvalidProof) as caught:
        admit(envelope("grant", signer=PAYER, issuer=PAYER.public_key), NETWORK)
    assert caught.value.param == "issuer"


@pytest.mark.parametrize(("kind", "who"), [("transfer", "payer"), ("grant", "issuer")])
def test_somebody_elses_signature_is_none(kind: str, who: str) -> None:
    with pytest.raises(InvalidSignature) as caught:
        admit(envelope(kind, signer=AGENT), NETWORK)
    assert caught.value.param == who


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_signature(kind: str, count: int) -> None:
    good = envelope(kind)
    with pytest.raises(InvalidProof) as caught:
        admit(msgspec.structs.replace(good, signatures=good.signatures * count), NETWORK)
    assert caught.value.param == "signatures"


@pytest.mark.parametrize("kind", ["loan", "", "Trade"])
def test_other_kinds_are_unknown(kind: str) -> None:
    with pytest.raises(InvalidProof) as caught:
        admit(msgspec.structs.replace(envelope("transfer"), kind=kind), NETWORK)
    assert caught.value.param == "kind"


def test_what_a_transfer_demands() -> None:
    """All of it, of the payer's own account, and never on credit (B4)."""
    admitted = admit(envelope("transfer", settled=30, open=(Open(3, 4), Open(5, 6)), amount=7), NETWORK)
    debit = Debit(
        order=(1, AT + 7, admitted.record_id),
        record_id=admitted.record_id,
        amount=7,  # type: ignore[arg-type]
        declared=40,  # type: ignore[arg-type]
        payee=key_account(AGENT.public_key),
        on_credit=False,
    )
    assert (admitted.demand.account, admitted.demand.debit) == (key_account(NODE.public_key), debit)
    assert admitted.demand.debit.on_credit is False
    assert admitted.record_id == record_id(admitted.body)


def test_what_a_grant_demands() -> None:
    admitted = admit(envelope("grant", settled=2_000, number=3), NETWORK)
    debit = Debit(
        order=(0, 3, admitted.record_id),
        record_id=admitted.record_id,
        amount=1_000,  # type: ignore[arg-type]
        declared=2_000,  # type: ignore[arg-type]
        payee=LINES,
        on_credit=True,
        limit_of=AGENT.public_key,
    )
    assert admitted.demand.account == quota_account(NODE.public_key, GRANT.period)
    assert admitted.demand.debit == debit


@pytest.mark.parametrize("scope", [0, 1])
def test_what_a_trade_demands(scope: int) -> None:
    """Of the payer's account, its local one for local use (B14); several of one session are ranked as one."""
    acceptance = msgspec.structs.replace(ACCEPTANCE, scope=scope)
    trade = msgspec.structs.replace(TRADE, scope=scope, acceptance_hash=record_id(acceptance))
    admitted = admit(trade_envelope(trade, acceptance), NETWORK)
    account = local_account if scope else key_account
    debit = Debit(
        order=(0, ACCEPTANCE.number, b""),
        record_id=admitted.record_id,
        amount=trade.amount,  # type: ignore[arg-type]
        declared=12 + 100 + 2**40,  # type: ignore[arg-type]
        payee=account(NODE.public_key),
        on_credit=True,
        progress=3,
    )
    assert (admitted.demand.account, admitted.demand.debit) == (account(PAYER.public_key), debit)


@pytest.mark.parametrize("place", [0, 1])
def test_each_signature_of_a_trade_counts(place: int) -> None:
    good = trade_envelope()
    signatures = list(good.signatures)
    signatures[place] = sign(TRADE, AGENT)
    with pytest.raises(InvalidSignature) as caught:
        admit(msgspec.structs.replace(good, signatures=tuple(signatures)), NETWORK)
    assert caught.value.param == ("payer", "provider")[place]


def test_an_acceptance_its_payer_did_not_sign() -> None:
    good = trade_envelope()
    forged = msgspec.structs.replace(good, attachments=(good.attachments[0], sign(ACCEPTANCE, AGENT)))
    with pytest.raises(InvalidSignature) as caught:
        admit(forged, NETWORK)
    assert caught.value.param == "acceptance"
    assert admit(forged, NETWORK, own_acceptance=True).demand == admit(good, NETWORK).demand


@pytest.mark.parametrize("changed", [{"signatures": 1}, {"signatures": 3}, {"attachments": 1}, {"attachments": 0}])
def test_a_trade_carries_all_its_evidence(changed: dict[str, int]) -> None:
    good = trade_envelope()
    cut = {name: (getattr(good, name) * 2)[:count] for name, count in changed.items()}
    with pytest.raises(InvalidProof) as caught:
        admit(msgspec.structs.replace(good, **cut), NETWORK)
    assert caught.value.param == "signatures"


def test_bytes_that_are_no_record() -> None:
    with pytest.raises(NonCanonical):
        admit(msgspec.structs.replace(envelope("transfer"), body=b"\x90"), NETWORK)


@pytest.mark.parametrize("made", [trade_envelope(), envelope("grant"), envelope("transfer")], ids=lambda e: e.kind)
def test_reading_again_checks_no_signature_and_demands_the_same(made: Envelope) -> None:
    admitted = admit(made, NETWORK)
    unsigned = msgspec.structs.replace(made, signatures=tuple(bytes(64) for _ in made.signatures))
    assert read(unsigned, NETWORK) == replace(admitted, envelope=unsigned)
