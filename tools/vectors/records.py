"""Vectors of TIP-03: the records of a paid answer."""

from functools import partial

import msgspec
from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AGENT, NETWORK, NODE, QUOTE, TRADE

from tirami.ledger.admission import Admitted, admit
from tirami.proto import Acceptance, Envelope, Trade, Voucher, amount_due, encode, leaf, record_id, sign
from tirami.verify import check_bill, leaf_hash
from tools.vectors.case import Case, case, replaced, verdict
from tools.vectors.tables import fenced


def _bills() -> list[Case]:
    lies: list[tuple[str, Trade, Acceptance]] = [("honest", TRADE, ACCEPTANCE)]
    just = replaced(ACCEPTANCE, ceiling=TRADE.amount)
    lies.append(("at the ceiling", replaced(TRADE, acceptance_hash=record_id(just)), just))
    long = amount_due(TRADE.price_in, TRADE.price_out, 5, 1_100)
    changes: dict[str, dict[str, object]] = {
        "an unknown scope": {"scope": 2},
        "pays itself": {"payer": TRADE.provider},
        "another payer": {"payer": AGENT.public_key},
        "another provider": {"provider": AGENT.public_key},
        "another network": {"network": "other"},
        "another incarnation": {"incarnation": 1},
        "another session": {"session": TRADE.session + 1},
        "another quote": {"quote_hash": bytes(32)},
        "another acceptance": {"acceptance_hash": bytes(32)},
        "a TRM too many": {"amount": TRADE.amount + 1},
        "a TRM too few": {"amount": TRADE.amount - 1},
        "for nothing": {"amount": 0},
        "a higher price, the old amount": {"price_out": TRADE.price_out + 300_000},
        "nothing delivered": {"completion_tokens": 0, "amount": 0},
        "above the ceiling": {"completion_tokens": 1_100, "amount": long},
    }
    lies += [(name, replaced(TRADE, **fields), ACCEPTANCE) for name, fields in changes.items()]
    for name, value in {"scope": 1, "provider": AGENT.public_key, "number": 1, "ceiling": TRADE.amount - 1}.items():
        other = replaced(ACCEPTANCE, **{name: value})
        lies.append((f"an acceptance with another {name}", replaced(TRADE, acceptance_hash=record_id(other)), other))
    return [
        case(name, trade=encode(t), acceptance=encode(a), **verdict(partial(check_bill, t, a, record_id(a))))
        for name, t, a in lies
    ]


def envelope_case(name: str, envelope: Envelope) -> Case:
    """How admission under the regtest file of the sample node judges an envelope."""
    admitted: list[Admitted] = []
    result = verdict(lambda: admitted.append(admit(envelope, NETWORK)))
    found = {"id": admitted[0].record_id, "leaf": leaf_hash(leaf(envelope))} if admitted else {}
    return case(name, envelope=msgspec.msgpack.encode(envelope), **result, **found)


def _trade_envelopes() -> list[Case]:
    good = samples.trade_envelope()
    a, p = good.signatures
    rows = [
        ("a trade", good),
        ("the payer's signature twice", replaced(good, signatures=(a, a))),
        ("signatures in the wrong order", replaced(good, signatures=(p, a))),
        ("one signature", replaced(good, signatures=(a,))),
        ("no acceptance", replaced(good, attachments=())),
        (
            "acceptance signed by another",
            replaced(good, attachments=(good.attachments[0], sign(ACCEPTANCE, NODE))),
        ),
        ("a trade of another network", samples.trade_envelope(replaced(TRADE, network="other"))),
        ("an amount nobody owes", samples.trade_envelope(replaced(TRADE, amount=TRADE.amount + 1))),
        ("one byte after the body", replaced(good, body=good.body + b"\x00")),
        ("an unknown kind", replaced(good, kind="loan")),
    ]
    return [envelope_case(name, envelope) for name, envelope in rows]


def vectors() -> Case:
    dues = (
        ("prompt free", 0, 1_000_000, 100, 9),
        ("exact", 250_000, 1_000_000, 4, 9),
        ("rounded up", 250_000, 1_000_000, 5, 9),
        ("one millionth is one", 1, 1, 1, 1),
        ("free is one", 0, 0, 1_000, 1_000),
        ("just above a whole", 0, 1_000_001, 0, 1),
        ("just below a whole", 0, 999_999, 0, 1),
        ("nothing delivered, nothing due", 250_000, 1_000_000, 1_000, 0),
        ("beyond 64 bits on the way", 1_500_000, 6_000_000, 2**40, 2**40),
        ("a half", 500_000, 500_000, 1, 2),
    )
    envelope = samples.trade_envelope()
    voucher = Voucher(envelope.body, envelope.signatures[0], *envelope.attachments)
    return {
        "amounts": [
            case(
                name, price_in=i, price_out=o, prompt_tokens=p, completion_tokens=c, amount=int(amount_due(i, o, p, c))
            )
            for name, i, o, p, c in dues
        ],
        "bills": _bills(),
        "voucher": case("a voucher", bytes=msgspec.msgpack.encode(voucher), fields=voucher),
        "admission": _trade_envelopes(),
    }


def example() -> list[str]:
    exact = TRADE.price_in * TRADE.prompt_tokens + TRADE.price_out * TRADE.completion_tokens
    return fenced(
        f"price_in {TRADE.price_in} · prompt_tokens {TRADE.prompt_tokens}"
        f" + price_out {TRADE.price_out} · completion_tokens {TRADE.completion_tokens} = {exact} µTRM",
        f"amount = ⌈{exact} ÷ 1000000⌉ = {TRADE.amount} TRM ≤ ceiling {ACCEPTANCE.ceiling} TRM",
        f"quote      {record_id(QUOTE).hex()}",
        f"acceptance {record_id(ACCEPTANCE).hex()}",
        f"trade      {record_id(TRADE).hex()}",
    )
