"""Vectors of TIP-14: signed signals and observations, reputation, and who is chosen."""

from fractions import Fraction

from tests.proto.samples import AGENT, AT, NODE

from tirami.core.keys import PublicKey, SigningKey, sha256
from tirami.core.units import MICRO, MicroTrm, Ppm, Trm
from tirami.ledger import Price
from tirami.market import Candidate, best, schedule_score
from tirami.market.reputation import LEAST, consensus
from tirami.proto import Observation, Offering, Record, Signal, encode, sign
from tools.vectors.case import Case, case, plain
from tools.vectors.tables import fenced

MODEL = Offering(
    "smollm2:135m", sha256(b"model"), sha256(b"tokenizer"), 2048, 134_515_008, 134_515_008, 30, 576, "Q4_1", 250_000,
    1_000_000,
)  # fmt: skip
SIGNAL = Signal("testnet", NODE.public_key, MICRO, 12_000, 4, 0, ("signals",), (MODEL,), 90_000, AT)
GONE = Signal("testnet", NODE.public_key, MICRO, 0, 0, 0, (), (), 90_000, AT + 1)
OBSERVATION = Observation("testnet", AGENT.public_key, NODE.public_key, 950_000, 12, 120, AT)

Views = list[tuple[int, int]]
REPUTATION: dict[str, tuple[int, Views]] = {
    "nobody": (500_000, []),
    "V-RC-1": (500_000, [(800_000, 50), (0, 6)]),
    "V-RC-2": (500_000, [(800_000, 50)] * 5 + [(0, 50)]),
    "V-RC-3": (500_000, [(900_000, 100)]),
    "V-RC-4": (500_000, [(100_000, 4)] * 5),
    "V-RC-5": (900_000, [(100_000, 5)]),
    "V-RC-6": (200_000, [(900_000, 5)]),
}


def candidate(
    key: int, reputation: int, price: int, latency: int, available: int | None, list_price: int = MICRO
) -> Candidate:
    held = None if available is None else Trm(available)
    asked = Price(MicroTrm(0), MicroTrm(price))
    return Candidate(PublicKey(bytes([key]) * 32), asked, MicroTrm(list_price), Ppm(reputation), latency, held)


CHOICES: dict[str, tuple[int, list[Candidate]]] = {
    "nobody": (100, []),
    "V-SP-1 before V-SP-2": (
        100,
        [candidate(1, 500_000, 500_000, 500, 10_000), candidate(2, 500_000, 2_000_000, 500, 10_000)],
    ),
    "V-SP-3 and V-SP-4": (
        100,
        [candidate(3, 800_000, 1_000_000, 420, 40), candidate(4, 900_000, 1_000_000, 100, 1_000)],
    ),
    "equal scores: the smaller key": (
        100,
        [candidate(key, 500_000, 1_000_000, 0, None) for key in (9, 7, 8)],
    ),
    "equal scores by other ways": (
        100,
        [candidate(6, 500_000, 1_000_000, 0, None), candidate(5, 1_000_000, 1_000_000, 1_000, None)],
    ),
    "nothing free scores nothing": (100, [candidate(1, MICRO, 1, 0, 0), candidate(2, 1, 3_000_000, 9_999, 1)]),
    "cheaper than a hundredth is no cheaper": (
        100,
        [candidate(2, 500_000, 1, 0, None), candidate(1, 500_000, 10_000, 0, None)],
    ),
    "dear models by their own list": (
        100,
        [candidate(1, 500_000, 8_000_000, 0, None, 8_000_000), candidate(2, 500_000, 1_100_000, 0, None)],
    ),
}


def vectors() -> Case:
    return {
        "signed": [
            _signed("a signal", "Signal", SIGNAL, NODE),
            _signed("a signal that says that it serves no more", "Signal", GONE, NODE),
            _signed("an observation", "Observation", OBSERVATION, AGENT),
        ],
        "reputation": [
            case(
                name,
                own_ppm=own,
                own_weight=LEAST,
                observations=[{"score_ppm": score, "weight": weight} for score, weight in views],
                reputation_ppm=consensus(own, views),
            )
            for name, (own, views) in REPUTATION.items()
        ],
        "choice": [_choice(name, tokens, candidates) for name, (tokens, candidates) in CHOICES.items()],
    }


def example() -> list[str]:
    _, candidates = CHOICES["V-SP-1 before V-SP-2"]
    shown = [
        f"reputation 0.5, m {float(one.multiplier):g}, 500 ms, cost {one.cost(0, 100)}, capacity 1: {_score(one, 100)}"
        for one in candidates
    ]
    return fenced("\n".join([*shown, "the first is asked"]), "text")


def _signed(name: str, struct: str, record: Record, key: SigningKey) -> Case:
    signed_by, signature = key.public_key, sign(record, key)
    return case(name, struct=struct, fields=plain(record), body=encode(record), signature=signature, key=signed_by)


def _score(one: Candidate, tokens: int) -> Fraction:
    return schedule_score(one, one.cost(0, tokens))


def _choice(name: str, tokens: int, candidates: list[Candidate]) -> Case:
    chosen = best(candidates, lambda one: _score(one, tokens))
    return case(
        name,
        prompt_tokens=0,
        completion_tokens=tokens,
        candidates=[
            {
                "provider": one.provider,
                "price_in_utrm": one.price.prompt,
                "price_out_utrm": one.price.completion,
                "list_price_utrm": one.list_price,
                "reputation_ppm": one.reputation,
                "latency_ms": one.latency_ms,
                "available_trm": one.available,
                "cost_trm": one.cost(0, tokens),
                "score": [_score(one, tokens).numerator, _score(one, tokens).denominator],
            }
            for one in candidates
        ],
        chosen=chosen.provider if chosen else None,
    )
