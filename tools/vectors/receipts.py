"""Vectors of TIP-06: receipts."""

import json
from functools import partial

import rfc8785
from tests.proto import samples
from tests.proto.samples import ACCEPTANCE, AGENT, NODE, PAYER, QUOTE, RECEIPT, TRADE

from tirami.core.keys import SigningKey
from tirami.proto import Envelope, Trade, amount_due, encode, sign
from tirami.verify import verify_receipt
from tools.vectors.case import Case, case, replaced, verdict
from tools.vectors.tables import shortened


def vectors() -> Case:
    good = samples.trade_envelope()
    document: Case = json.loads(RECEIPT)
    other: Case = json.loads(samples.receipt_of(samples.trade_envelope(replaced(TRADE, at_ms=TRADE.at_ms + 1))))
    stranger = SigningKey.from_seed(b"\x09" * 32)
    head = samples.HEAD
    start = good.body.index(b"regtest") + len(b"regtest")
    spelled = good.body[:start] + b"\xcc" + good.body[start:]
    respelled = [signer.sign(Trade.TAG + spelled).hex() for signer in (PAYER, NODE)]

    def with_(**fields: object) -> bytes:
        return rfc8785.dumps(document | fields)

    def signed_by(*signatures: bytes) -> bytes:
        return samples.receipt_of(Envelope("trade", good.body, signatures, good.attachments))

    files: list[tuple[str, bytes]] = [
        ("good", RECEIPT),
        ("a newline after it", RECEIPT + b"\n"),
        ("laid out for people", json.dumps(document, indent=1, sort_keys=True).encode()),
        ("names in another order", json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode()),
        ("a name twice", RECEIPT.replace(b'"kind":"trade"', b'"kind":"trade","kind":"trade"')),
        ("an escaped letter", RECEIPT.replace(b'"kind":"trade"', b'"kind":"\\u0074rade"')),
        ("an index as 4.0", RECEIPT.replace(b'"leaf_index":4', b'"leaf_index":4.0')),
        ("upper-case hex", with_(body=document["body"].upper())),
        ("a foreign field", with_(colour="red")),
        ("a later format", with_(format="tirami/2/receipt")),
        ("a field missing", rfc8785.dumps({k: v for k, v in document.items() if k != "acceptance"})),
        ("payer's signature by a stranger", signed_by(sign(TRADE, stranger), good.signatures[1])),
        ("provider's signature by a stranger", signed_by(good.signatures[0], sign(TRADE, stranger))),
        ("signatures in the wrong order", signed_by(*good.signatures[::-1])),
        ("acceptance signed by a stranger", with_(acceptance_signature=sign(ACCEPTANCE, stranger).hex())),
        ("head signed by a stranger", samples.receipt_of(good, signer=stranger)),
        ("another leaf index", with_(leaf_index=samples.INDEX - 1)),
        ("the path cut", with_(proof=document["proof"][:-1])),
        ("a hash too many", with_(proof=[*document["proof"], "00" * 32])),
        ("a head over another root", samples.receipt_of(good, replaced(head, root=bytes(32)))),
        ("a head of another network", samples.receipt_of(good, replaced(head, network="other"))),
        ("another trade's proof", with_(**{name: other[name] for name in ("head", "head_signature", "proof")})),
        ("another trade's body", with_(**{name: other[name] for name in ("body", "signatures", "trade")})),
        ("a summary with another amount", with_(trade=document["trade"] | {"amount_trm": TRADE.amount + 1})),
        ("an amount nobody owes", samples.receipt_of(samples.trade_envelope(replaced(TRADE, amount=TRADE.amount + 1)))),
        ("dearer than accepted", samples.receipt_of(_dear())),
        ("another session than accepted", samples.receipt_of(samples.trade_envelope(replaced(TRADE, session=1)))),
        ("a number spelled in two bytes, signed so", with_(body=spelled.hex(), signatures=respelled)),
        ("a quote in place of the acceptance", with_(acceptance=encode(QUOTE).hex())),
        ("65537 bytes", b" " * 65_537),
        ("no JSON", b"\xff"),
    ]
    trust: list[tuple[str, list[SigningKey]]] = [
        ("the node is known", [NODE]),
        ("the node and others are known", [NODE, AGENT]),
        ("only the payer is known", [PAYER]),
        ("nobody is known", []),
    ]
    return {
        "files": [_file(name, data) for name, data in files],
        "trust": [
            case(name, file="good", trusted=sorted(keys), **verdict(partial(verify_receipt, RECEIPT, keys)))
            for name, signers in trust
            for keys in [frozenset(signer.public_key for signer in signers)]
        ],
    }


def _dear() -> Envelope:
    amount = amount_due(TRADE.price_in, TRADE.price_out, 5, 2_000)
    return samples.trade_envelope(replaced(TRADE, completion_tokens=2_000, amount=amount))


def _file(name: str, data: bytes) -> Case:
    """Text where it is text and short, else hex or a repetition."""
    if len(set(data)) == 1 and len(data) > 64:
        shown: Case = {"repeat": {"byte": data[:1], "times": len(data)}}
    elif data.isascii():
        shown = {"text": data.decode()}
    else:
        shown = {"bytes": data}
    return case(name, **shown, **verdict(lambda: verify_receipt(data)))


def example() -> list[str]:
    return shortened(json.loads(RECEIPT))
