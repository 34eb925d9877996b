"""The arithmetic of a bill, one lie at a time."""

import msgspec
import pytest

from tests.proto.samples import ACCEPTANCE, AGENT, TRADE
from tirami.core.errors import InvalidProof
from tirami.proto import Acceptance, Trade, record_id
from tirami.verify import check_bill

ID = record_id(ACCEPTANCE)


def test_an_honest_bill() -> None:
    check_bill(TRADE, ACCEPTANCE, ID)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scope": 2}, "scope"),
        ({"scope": 1}, "payer"),
        ({"network": "other"}, "payer"),
        ({"payer": TRADE.provider}, "payer"),
        ({"payer": AGENT.public_key}, "payer"),
        ({"provider": AGENT.public_key}, "payer"),
        ({"incarnation": 1}, "session"),
        ({"session": TRADE.session + 1}, "session"),
        ({"quote_hash": bytes(32)}, "quote_hash"),
        ({"acceptance_hash": bytes(32)}, "acceptance_hash"),
        ({"amount": TRADE.amount + 1}, "amount"),
        ({"amount": TRADE.amount - 1}, "amount"),
        ({"amount": 0}, "amount"),
        ({"price_in": TRADE.price_in + 1_000_000}, "amount"),
        ({"price_out": TRADE.price_out + 300_000}, "amount"),
        ({"prompt_tokens": TRADE.prompt_tokens + 4}, "amount"),
        ({"completion_tokens": TRADE.completion_tokens + 1}, "amount"),
        ({"completion_tokens": 0, "amount": 0}, "completion_tokens"),
        ({"completion_tokens": 1_100, "amount": 1_102}, "amount"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_lie_in_the_trade(fields: dict[str, object], param: str) -> None:
    trade: Trade = msgspec.structs.replace(TRADE, **fields)
    with pytest.raises(InvalidProof) as caught:
        check_bill(trade, ACCEPTANCE, ID)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "other"},
        {"scope": 1},
        {"payer": AGENT.public_key},
        {"provider": AGENT.public_key},
        {"incarnation": 1},
        {"number": ACCEPTANCE.number + 1},
        {"quote_hash": bytes(32)},
        {"ceiling": TRADE.amount - 1},
    ],
    ids="+".join,
)
def test_another_acceptance(fields: dict[str, object]) -> None:
    other: Acceptance = msgspec.structs.replace(ACCEPTANCE, **fields)
    cited: Trade = msgspec.structs.replace(TRADE, acceptance_hash=record_id(other))
    with pytest.raises(InvalidProof):
        check_bill(TRADE, other, record_id(other))
    with pytest.raises(InvalidProof):
        check_bill(cited, other, record_id(other))


def test_the_ceiling_itself_is_allowed() -> None:
    just: Acceptance = msgspec.structs.replace(ACCEPTANCE, ceiling=TRADE.amount)
    check_bill(msgspec.structs.replace(TRADE, acceptance_hash=record_id(just)), just, record_id(just))
