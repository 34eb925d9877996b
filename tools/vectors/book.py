"""Vectors of TIP-07: the book."""

from typing import Any

import msgspec
from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AGENT, NETWORK, NODE, PAYER, TRADE

from tirami.core.keys import SigningKey
from tirami.core.units import DAY_MS
from tirami.ledger.admission import admit, allowance_rule
from tirami.proto import Envelope, Grant, Transfer, encode, record_id, sign
from tools.vectors.case import Case, case, replaced
from tools.vectors.histories import ISSUER, QUOTA, folded, histories, history, orders_of
from tools.vectors.keys import LOCAL_USER
from tools.vectors.records import envelope_case
from tools.vectors.tables import fenced


def _real() -> list[Envelope]:
    """Grants, trades at two counts, a gift and an own use, all properly signed under regtest."""
    line = replaced(samples.GRANT, to=PAYER.public_key)
    accepted = replaced(ACCEPTANCE, settled=0, open=())
    first = replaced(TRADE, acceptance_hash=record_id(accepted), completion_tokens=2, amount=4, flop=0)
    last = replaced(TRADE, acceptance_hash=record_id(accepted))
    gift = replaced(samples.TRANSFER, incarnation=0, amount=3)
    own = replaced(ACCEPTANCE, scope=1, payer=LOCAL_USER.public_key, settled=0, open=())
    used = replaced(TRADE, scope=1, payer=LOCAL_USER.public_key, acceptance_hash=record_id(own))
    return [
        Envelope("grant", encode(line), (sign(line, NODE),), ()),
        *(samples.trade_envelope(trade, accepted) for trade in (first, last)),
        Envelope("transfer", encode(gift), (sign(gift, NODE),), ()),
        Envelope(
            "trade",
            encode(used),
            (sign(used, LOCAL_USER), sign(used, NODE)),
            (encode(own), sign(own, LOCAL_USER)),
        ),
    ]


def vectors() -> Case:
    envelopes = _real()
    admitted = [admit(envelope, NETWORK) for envelope in envelopes]
    rows = [(entry.record_id, entry.demand) for entry in admitted]
    orders = orders_of(len(rows))
    grant, transfer = samples.GRANT, samples.TRANSFER
    midnight = grant.period * DAY_MS

    def one(record: Grant | Transfer, signer: SigningKey = NODE, **fields: Any) -> Envelope:
        changed = replaced(record, **fields)
        kind = "grant" if isinstance(record, Grant) else "transfer"
        return Envelope(kind, encode(changed), (sign(changed, signer),), ())

    return {
        "rules": {"issuer": ISSUER.hex(), "quota": QUOTA, "local": str(1 << 62)},
        "histories": [history(name, lived) for name, lived in histories().items()],
        "records": [
            case(
                "a line, a trade at two counts, a gift, the owner's own use",
                network=NETWORK.to_bytes().decode(),
                envelopes=[msgspec.msgpack.encode(envelope) for envelope in envelopes],
                orders=orders,
                expected=folded(rows, orders, allowance_rule(NETWORK)),
            )
        ],
        "admission": [
            envelope_case(name, envelope)
            for name, envelope in (
                ("a grant", one(grant)),
                ("a grant by no issuer", one(grant, AGENT, issuer=AGENT.public_key)),
                ("a grant signed by another", one(grant, AGENT)),
                ("a line too large", one(grant, limit=1_001)),
                ("a line of nothing", one(grant, limit=0)),
                ("a grant of another network", one(grant, network="other")),
                ("a grant at the first millisecond of its day", one(grant, at_ms=midnight)),
                ("a grant at the last millisecond of its day", one(grant, at_ms=midnight + DAY_MS - 1)),
                (
                    "a grant dated in the future: no clock refuses a record",
                    one(grant, period=grant.period + 36_500, at_ms=grant.at_ms + 36_500 * DAY_MS),
                ),
                ("a grant on the quota of the day before", one(grant, period=grant.period - 1)),
                ("a grant on the quota of the day after", one(grant, period=grant.period + 1)),
                ("a grant at the next midnight on the old quota", one(grant, at_ms=midnight + DAY_MS)),
                ("a grant a millisecond before its day", one(grant, at_ms=midnight - 1)),
                ("a grant on the quota of day 0", one(grant, period=0)),
                ("a grant on the last quota there can be", one(grant, period=2**64 - 1)),
                ("a transfer", one(transfer)),
                ("a transfer of nothing", one(transfer, amount=0)),
                ("a transfer to oneself", one(transfer, to=NODE.public_key)),
                ("a transfer of local scope", one(transfer, scope=1)),
                ("a transfer signed by another", one(transfer, AGENT)),
                ("a transfer of another network", one(transfer, network="other")),
            )
        ],
    }


def example() -> list[str]:
    rows = histories()["a liar's later number gives way to an earlier one"]
    expected = history("", rows)["expected"]
    return fenced(
        "g    quota → line of A      50 TRM",
        "t5   A → B   number 5       50 TRM   declares 0",
        "t1   A → C   number 1       50 TRM   declares 0",
        "",
        "g, t5 arrive:       0 + 50 ≥ max(0, 0) + 50     t5 applies, B has 50",
        "t1 arrives late:    0 + 50 ≥ max(0, 0) + 50     t1 applies, C has 50",
        "                    0 + 50 < max(0, 50) + 50    t5 does not: A hid number 1 when it signed number 5",
        f"state hash          {expected['state_hash']}",
    )
