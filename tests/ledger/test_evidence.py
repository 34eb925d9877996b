"""The index convicts whom the oracle convicts, never an honest payer, and what it says verifies offline (B8)."""

import random
from itertools import permutations

import pytest
from tools.vectors.case import replaced

from tests.ledger.promised import Forgetful, HonestPayer, acceptance, cited, gift, grant, judged, lying_history, voucher
from tests.proto.samples import AGENT, HEAD, NODE, PAYER, Log
from tirami.core.units import DAY_MS
from tirami.ledger.evidence import CAPACITY, HEADS, Evidence
from tirami.proto.fraud import MAX_CITED, Cited
from tirami.verify.fraud import Verdict, verify_fraud

NETWORK = "regtest"
HISTORIES = 2_000


def convicted(pieces: list[Cited], capacity: int = 1024) -> Verdict | None:
    """What the index says of these pieces; its proof, checked offline."""
    evidence = Evidence(NETWORK, capacity)
    proofs = [proof for proof in map(evidence.see, pieces) if proof]
    assert len(proofs) == len(evidence.proofs) <= 1
    return verify_fraud(proofs[0]) if proofs else None


@pytest.mark.parametrize("part", range(4))
def test_no_honest_payer_is_ever_convicted(part: int) -> None:
    restarts = undetected = pieces_seen = 0
    for seed in range(part * HISTORIES // 4, (part + 1) * HISTORIES // 4):
        draw = random.Random(seed)
        payer = HonestPayer(draw)
        pieces = payer.history(draw.randint(10, 120))
        assert judged(pieces) is None, seed
        assert convicted(pieces) is None, seed
        assert convicted(pieces, capacity=5) is None, f"{seed}: what is forgotten convicts nobody"
        restarts += payer.restarts
        undetected += payer.undetected
        pieces_seen += len(pieces)
    assert restarts > 500 and undetected > 50 and pieces_seen > 10_000, "long enough to mean something"
    print(f"{HISTORIES // 4} histories: {restarts} restarts of a key, {undetected} old copies that were as good as new")


def test_books_that_forget_vouchers_are_convicted() -> None:
    """The histories can tell: one rule of B7 less, and many of them convict, with the oracle and with the index."""
    convictions = 0
    for seed in range(200):
        draw = random.Random(seed)
        pieces = Forgetful(draw).history(draw.randint(10, 120))
        assert (convicted(pieces) is None) == (judged(pieces) is None)
        convictions += convicted(pieces) is not None
    assert convictions > 100


@pytest.mark.parametrize("part", range(4))
def test_a_liar_is_convicted_exactly_when_the_oracle_does(part: int) -> None:
    kinds: dict[str, int] = {}
    for seed in range(part * HISTORIES // 4, (part + 1) * HISTORIES // 4):
        pieces = lying_history(random.Random(seed))
        found, expected = convicted(pieces), judged(pieces)
        assert (found is None) == (expected is None), (seed, expected)
        if found:
            assert (found.guilty, found.role) == (PAYER.public_key, "payer")
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
        assert convicted(pieces, capacity=3) is None or expected, "what is forgotten convicts nobody"
    assert min(kinds[kind] for kind in ("same-number", "totals", "ceiling")) > 20
    assert sum(kinds.values()) < HISTORIES // 4 - 50


def test_a_proof_comes_with_the_piece_that_completes_it_in_any_order() -> None:
    pieces = [
        cited(voucher(1, 5)),
        cited(voucher(2, 6)),
        cited(acceptance(3, settled=10, opened={4: 3})),
    ]
    for order in permutations(pieces):
        evidence = Evidence(NETWORK)
        found = [evidence.see(piece) for piece in order]
        assert [proof is not None for proof in found] == [False, False, True]
        assert found[2] is not None
        assert verify_fraud(found[2]).kind == "totals"
        assert evidence.see(order[0]) is None, "the first proof is enough"


def test_b8_c_counts_the_acceptance_of_the_listed_session_too() -> None:
    pieces = [cited(acceptance(1, ceiling=9)), cited(acceptance(2, opened={1: 8}))]
    for order in (pieces, pieces[::-1]):
        verdict = convicted(order)
        assert verdict is not None
        assert verdict.kind == "ceiling"
    assert convicted([pieces[0], cited(acceptance(2, opened={1: 9}))]) is None


def test_a_proof_cites_the_fewest_debits() -> None:
    pieces = [cited(voucher(number, 1 + 50 * (number == 7))) for number in range(1, 20)]
    verdict = convicted([*pieces, cited(acceptance(30, settled=50))])
    assert verdict is not None
    assert len(verdict.records) == 2


def test_issuers() -> None:
    day = grant(1, 500).period
    first, second = cited(grant(1, 500)), cited(grant(2, 400, settled=500))
    assert convicted([first, second]) is None
    contradicted = convicted([first, cited(grant(2, 400, settled=499))])
    assert contradicted is not None
    assert (contradicted.role, contradicted.kind) == ("issuer", "totals")
    twice = convicted([first, cited(grant(1, 400))])
    assert twice is not None
    assert (twice.role, twice.kind) == ("issuer", "same-number")
    tomorrow = cited(grant(1, 400, period=day + 1, at_ms=(day + 1) * DAY_MS))
    assert convicted([first, tomorrow]) is None, "numbers are of one period"
    assert convicted([first, cited(grant(1, 400, incarnation=1))]) is None
    assert convicted([first, cited(gift(1, 400)), cited(acceptance(2, settled=400))]) is None, "another account"


def test_heads() -> None:
    log = Log(tuple(b"leaf %d" % number for number in range(9)))
    other = Log((b"another", *log.leaves[1:]))

    def head(of: Log, size: int, **fields: object) -> Cited:
        return cited(replaced(HEAD, size=size, root=of.root(0, size), **fields), NODE)

    assert convicted([head(log, 4), head(log, 9), head(log, 4, at_ms=HEAD.at_ms + 5)]) is None, "a time is nothing"
    assert convicted([head(log, 4), head(other, 4, log_id=b"\1" * 16)]) is None, "another log"
    two = convicted([head(log, 4), head(log, 9), head(other, 4)])
    assert two is not None
    assert (two.guilty, two.role, two.kind) == (NODE.public_key, "log", "two-heads")
    evidence = Evidence(NETWORK)
    for size in range(1, 9):
        path = log.consistency(size)
        assert evidence.see_path(head(log, size), head(log, 9), log.root(0, size), path) is None
        assert evidence.see_path(head(other, size), head(log, 9), log.root(0, size), path[:-1]) is None
        assert evidence.see_path(head(other, size), head(log, 9), other.root(0, size), path) is None, "not under it"
        proof = Evidence(NETWORK).see_path(head(other, size), head(log, 9), log.root(0, size), path)
        assert proof is not None
        assert verify_fraud(proof).kind == "rewritten-log"


def test_heads_are_forgotten() -> None:
    evidence = Evidence(NETWORK)
    for size in range(HEADS + 10):
        assert evidence.see(cited(replaced(HEAD, size=size), NODE)) is None
    assert len(evidence._heads[NODE.public_key]) == HEADS


def test_other_networks_and_keys_are_no_evidence() -> None:
    assert convicted([cited(voucher(1, 5, network="other")), cited(acceptance(2))]) is None
    stranger = cited(voucher(1, 5, payer=AGENT.public_key), AGENT)
    assert convicted([stranger, cited(acceptance(2))]) is None


def test_memory_is_bounded_and_keeps_what_matters() -> None:
    """A large debit of long ago outlives any number of small ones."""
    evidence = Evidence(NETWORK, capacity=8)
    settled = 1_000
    assert evidence.see(cited(voucher(1, 1_000))) is None
    for number in range(2, 300):
        for amount in (1, 2, 3):
            assert evidence.see(cited(voucher(number, amount))) is None
        assert evidence.see(cited(acceptance(number, settled, ceiling=3))) is None
        settled += 3
    kept = evidence._keys[PAYER.public_key]
    (numbers,) = kept._series.values()
    assert (len(numbers.stated), len(numbers.debits)) == (8, 8)
    assert len(kept._debits) <= 4 * 8
    assert len(numbers._totals) <= 34
    assert not numbers._listed
    for incarnation in range(1, 100):
        assert evidence.see(cited(acceptance(1, ceiling=3, incarnation=incarnation))) is None
    assert len(kept._series) <= 9
    proof = evidence.see(cited(acceptance(10_000, settled=999)))
    assert proof is not None
    assert verify_fraud(proof).kind == "totals"


def test_the_largest_proof_verifies() -> None:
    """As many debits as are remembered, each of them needed, under the longest open list."""
    evidence = Evidence(NETWORK)
    for number in range(1, CAPACITY + 1):
        assert evidence.see(cited(voucher(number, 1))) is None
    proof = evidence.see(cited(acceptance(2_000, CAPACITY - 1, {3_000 + number: 2**63 for number in range(32)})))
    assert proof is not None
    assert len(verify_fraud(proof).records) == MAX_CITED
