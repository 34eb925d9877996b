"""Vectors of TIP-11: fraud proofs."""

import json
from functools import partial

import rfc8785
from tests.ledger.promised import acceptance, cited
from tests.proto.samples import AGENT
from tests.verify.frauds import A1, GOOD, NO_PROOF, TOTALS, ordered, proof

from tirami.verify import verify_fraud
from tools.vectors.case import Case, case, verdict
from tools.vectors.tables import shortened


def vectors() -> Case:
    document: Case = json.loads(TOTALS)

    def with_(**fields: object) -> bytes:
        return rfc8785.dumps(document | fields)

    respelled = json.loads(TOTALS)
    respelled["records"][0]["body"] = "dc000b" + respelled["records"][0]["body"][2:]
    forged = cited(acceptance(1, 5), AGENT)
    files = [
        *((name, data) for name, (data, _) in GOOD.items()),
        *((name, data) for name, (data, _) in NO_PROOF.items()),
        ("a signature by another key", proof("same-number", *ordered(A1, forged))),
        ("a newline after it", TOTALS + b"\n"),
        ("laid out for people", json.dumps(document, indent=1, sort_keys=True).encode()),
        ("a foreign field", with_(colour="red")),
        ("a field missing", rfc8785.dumps({name: value for name, value in document.items() if name != "path"})),
        ("a later format", with_(format="tirami/2/fraud")),
        ("a kind nobody knows", with_(kind="unfunded")),
        ("one record", with_(records=document["records"][:1])),
        ("another key accused", with_(guilty=AGENT.public_key.hex())),
        ("another network named", with_(network="other")),
        ("a body in another spelling", rfc8785.dumps(respelled)),
    ]
    return {"files": [case(name, text=data.decode(), **verdict(partial(verify_fraud, data))) for name, data in files]}


def example() -> list[str]:
    return shortened(json.loads(TOTALS))
