"""TIP-14 judged again by means of its own."""

from fractions import Fraction
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.docs.test_protocol import TABLES, Case, cases, due, packed, raw


def typed(kind: str, value: Any) -> Any:
    """A JSON value as what its documented type says."""
    if kind.startswith("list"):
        item = kind.rsplit("× ", 1)[1]
        if item not in TABLES:
            return value
        return [[typed(inner, entry[name]) for name, inner in TABLES[item][1]] for entry in value]
    if kind.startswith("bytes"):
        return raw(value)
    return value if kind in ("name", "boolean") or kind.startswith("text") else int(value)


@cases(14, "signed")
def test_14_bytes_and_signatures(case: Case) -> None:
    body = raw(case["body"])
    tag, rows = TABLES[case["struct"]]
    assert packed([typed(kind, case["fields"][name]) for name, kind in rows]) == body
    Ed25519PublicKey.from_public_bytes(raw(case["key"])).verify(raw(case["signature"]), tag.encode() + body)
    for name in ("node", "observer"):
        assert case["fields"].get(name) in (None, case["key"]), "signed by whom it speaks for"


@cases(14, "reputation")
def test_14_reputation(case: Case) -> None:
    """Rule 8, over a list with every value as often as it weighs."""
    views = [view for view in case["observations"] if view["weight"] >= 5]
    if not views:
        assert case["reputation_ppm"] == case["own_ppm"]
        return
    drawn = [case["own_ppm"]] * case["own_weight"]
    for view in views:
        drawn += [view["score_ppm"]] * view["weight"]
    assert case["reputation_ppm"] == sorted(drawn)[max(len(drawn) // 2 - 1, 0)]


def score(one: dict[str, Any], tokens: int) -> Fraction:
    cost = due(one["price_in_utrm"], one["price_out_utrm"], 0, tokens)
    assert cost == one["cost_trm"]
    capacity = Fraction(1)
    if one["available_trm"] is not None and one["available_trm"] < cost:
        capacity = Fraction(one["available_trm"], cost)
    m = max(Fraction(one["price_out_utrm"], one["list_price_utrm"]), Fraction(1, 100))
    return Fraction(one["reputation_ppm"], 10**6) / m * Fraction(1000, 1000 + one["latency_ms"]) * capacity


@cases(14, "choice")
def test_14_choice(case: Case) -> None:
    best: tuple[Fraction, str] | None = None
    for one in case["candidates"]:
        value = score(one, case["completion_tokens"])
        assert value == Fraction(*one["score"])
        if best is None or value > best[0] or (value == best[0] and one["provider"] < best[1]):
            best = (value, one["provider"])
    assert case["chosen"] == (best[1] if best else None)
