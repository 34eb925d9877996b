"""Fraud proofs, good and bad, from the keys of the samples."""

from collections.abc import Sequence

from tools.vectors.case import replaced

from tests.ledger.promised import acceptance, cited, gift, grant, voucher
from tests.proto.samples import AGENT, HEAD, NODE, PAYER, Log
from tirami.core.keys import SigningKey
from tirami.proto.fraud import Cited, FraudKind, build_fraud

LOG = Log(tuple(b"leaf %d" % number for number in range(7)))


def proof(kind: FraudKind, *pieces: Cited, path: Sequence[bytes] = (), key: SigningKey = PAYER) -> bytes:
    return build_fraud(kind, "regtest", key.public_key, pieces, path)


def ordered(*pieces: Cited) -> list[Cited]:
    return sorted(pieces, key=lambda piece: piece.body)


def head(root: bytes, size: int = 7, **fields: object) -> Cited:
    return cited(replaced(HEAD, size=size, root=root, **fields), NODE)


TOTALS = proof("totals", cited(acceptance(9, settled=10)), cited(voucher(1, 5)), cited(gift(2, 6)))
GOOD = {
    "two acceptances": (proof("same-number", *ordered(cited(acceptance(1)), cited(acceptance(1, 5)))), "payer"),
    "a transfer and an acceptance": (proof("same-number", *ordered(cited(acceptance(1)), cited(gift(1, 5)))), "payer"),
    "two transfers": (proof("same-number", *ordered(cited(gift(1, 6)), cited(gift(1, 5)))), "payer"),
    "totals": (TOTALS, "payer"),
    "totals of a transfer": (proof("totals", cited(gift(9, 1, settled=4)), cited(voucher(1, 5))), "payer"),
    "over a voucher": (proof("ceiling", cited(acceptance(2, opened={1: 4})), cited(voucher(1, 5))), "payer"),
    "over an acceptance": (
        proof("ceiling", cited(acceptance(2, opened={1: 4})), cited(acceptance(1, ceiling=5))),
        "payer",
    ),
    "two grants": (proof("same-number", *ordered(cited(grant(1, 5)), cited(grant(1, 6)))), "issuer"),
    "totals of grants": (proof("totals", cited(grant(3, 5, settled=6)), cited(grant(1, 7))), "issuer"),
    "two heads": (proof("two-heads", *ordered(head(LOG.root()), head(bytes(32))), key=NODE), "log"),
    "a rewritten log": (
        proof(
            "rewritten-log",
            head(bytes(32), 3),
            head(LOG.root()),
            path=[LOG.root(0, 3), *LOG.consistency(3)],
            key=NODE,
        ),
        "log",
    ),
    "a rewritten log, from a full tree": (
        proof(
            "rewritten-log",
            head(bytes(32), 4),
            head(LOG.root()),
            path=[LOG.root(0, 4), *LOG.consistency(4)],
            key=NODE,
        ),
        "log",
    ),
}

A1, V1 = cited(acceptance(1)), cited(voucher(1, 5))
NO_PROOF: dict[str, tuple[bytes, str]] = {
    "several vouchers of one session": (
        proof("totals", cited(acceptance(9, settled=10)), *ordered(V1, cited(voucher(1, 6)))),
        "one debit a number",
    ),
    "several vouchers as one number": (
        proof("same-number", *ordered(V1, cited(voucher(1, 6)))),
        "nothing about totals",
    ),
    "a voucher beside an acceptance": (proof("same-number", A1, V1), "several vouchers"),
    "two countersigned amounts": (
        proof("ceiling", cited(acceptance(2, opened={1: 6})), cited(voucher(1, 6))),
        "covers the session",
    ),
    "one body": (proof("same-number", A1, A1), "ascending"),
    "two bodies in the other order": (
        proof("same-number", *ordered(A1, cited(acceptance(1, 5)))[::-1]),
        "ascending",
    ),
    "two numbers": (proof("same-number", A1, cited(acceptance(2))), "different numbers"),
    "two incarnations": (proof("same-number", A1, cited(acceptance(1, incarnation=1))), "incarnations"),
    "totals of another incarnation": (
        proof("totals", cited(acceptance(9, incarnation=1)), V1),
        "incarnations",
    ),
    "an issuer's and a payer's number": (proof("same-number", A1, cited(grant(1, 5))), "roles"),
    "grants of two days": (proof("same-number", cited(grant(1, 5)), cited(grant(1, 5, period=3))), "days"),
    "covered totals": (proof("totals", cited(acceptance(9, settled=5)), V1), "cover these debits"),
    "a debit of the same number": (proof("totals", cited(acceptance(1)), V1), "need not cover"),
    "a debit of a larger number": (proof("totals", A1, cited(voucher(2, 5))), "need not cover"),
    "a debit that is listed as open": (
        proof("totals", cited(acceptance(9, opened={1: 5})), V1),
        "need not cover",
    ),
    "a promise": (proof("totals", cited(acceptance(9)), cited(acceptance(1, ceiling=99))), "takes nothing"),
    "totals of a voucher": (proof("totals", cited(voucher(9, 1)), V1), "nothing about totals"),
    "a session not listed": (proof("ceiling", cited(acceptance(2, opened={3: 1})), V1), "does not list"),
    "three records": (
        proof("same-number", *ordered(A1, cited(acceptance(1, 5)), cited(acceptance(1, 6)))),
        "two records",
    ),
    "a head among numbers": (proof("same-number", cited(HEAD, NODE), cited(HEAD, NODE), key=NODE), "numbers"),
    "heads of two sizes": (proof("two-heads", *ordered(head(bytes(32), 3), head(LOG.root())), key=NODE), "equal size"),
    "two times": (
        proof("two-heads", *ordered(head(LOG.root()), head(LOG.root(), at_ms=HEAD.at_ms + 1)), key=NODE),
        "different roots",
    ),
    "heads of two logs": (
        proof("two-heads", *ordered(head(LOG.root()), head(bytes(32), log_id=bytes(16))), key=NODE),
        "two logs",
    ),
    "heads in the other order": (
        proof("two-heads", *ordered(head(LOG.root()), head(bytes(32)))[::-1], key=NODE),
        "ascending",
    ),
    "acceptances as heads": (proof("two-heads", A1, A1), "by two heads"),
    "three heads": (proof("two-heads", *[head(LOG.root())] * 3, key=NODE), "two records"),
    "no path": (proof("rewritten-log", head(bytes(32), 3), head(LOG.root()), key=NODE), "proved by a path"),
    "the older head's own root": (
        proof("rewritten-log", head(LOG.root(0, 3), 3), head(LOG.root()),
              path=[LOG.root(0, 3), *LOG.consistency(3)], key=NODE),
        "own root",
    ),
    "a path that is cut": (
        proof("rewritten-log", head(bytes(32), 3), head(LOG.root()),
              path=[LOG.root(0, 3), *LOG.consistency(3)[:-1]], key=NODE),
        "consistency proof",
    ),
    "a path from nowhere": (
        proof("rewritten-log", head(bytes(32), 3), head(LOG.root()), path=[b"\1" * 32, *LOG.consistency(3)], key=NODE),
        "both roots",
    ),
    "a log that shrank": (
        proof("rewritten-log", head(LOG.root()), head(bytes(32), 3),
              path=[LOG.root(0, 3), *LOG.consistency(3)], key=NODE),
        "later one",
    ),
    "a path where none belongs": (
        proof("same-number", *ordered(A1, cited(acceptance(1, 5))), path=[bytes(32)]),
        "nothing else is",
    ),
    "another network": (proof("same-number", *ordered(A1, cited(acceptance(1, 5, network="other")))), "network"),
    "another key's record": (
        proof("same-number", *ordered(A1, cited(acceptance(1, 5, payer=AGENT.public_key)))),
        "another key",
    ),
}  # fmt: skip
