"""Opinions weigh what was paid: the vectors of spec 02 §11, and what a liar cannot do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.clock import APART_MS
from tirami.core.keys import sha256
from tirami.core.units import MICRO
from tirami.market import Reputation
from tirami.market.reputation import AVERAGED, LEAST, MOST, OBSERVERS, START, consensus
from tirami.proto import Observation, Trade

NOW = 1_700_000_000_000
OWN, SUBJECT = sha256(b"own"), sha256(b"subject")


def key(number: int) -> bytes:
    return sha256(number.to_bytes(4))


def trade(payer: bytes, session: int, provider: bytes = SUBJECT) -> Trade:
    zero = bytes(32)
    return Trade(
        network="testnet", scope=0, provider=provider, payer=payer, incarnation=1, session=session, quote_hash=zero,
        acceptance_hash=zero, model_digest=zero, tokenizer_digest=zero, price_in=1, price_out=1, prompt_tokens=1,
        completion_tokens=1, amount=1, flop=1, running_hash=zero, at_ms=NOW,
    )  # fmt: skip


def observation(observer: bytes, score: float, *, at_ms: int = NOW, sessions: int = 1) -> Observation:
    return Observation("testnet", observer, SUBJECT, round(score * MICRO), sessions, 100, at_ms)


def customer(reputation: Reputation, payer: bytes, sessions: int) -> None:
    for session in range(1, sessions + 1):
        reputation.traded(trade(payer, session))


@pytest.mark.parametrize(
    ("own", "views", "expected"),
    [
        (0.5, [(0.8, 50), (0.0, 6)], 0.8),
        (0.5, [(0.8, 50)] * 5 + [(0.0, 50)], 0.8),
        (0.5, [(0.9, 100)], 0.9),
        (0.5, [(0.1, 4)] * 5, 0.5),
        (0.9, [(0.1, 5)], 0.1),
        (0.2, [(0.9, 5)], 0.2),
    ],
)
def test_the_vectors_of_the_original(own: float, views: list[tuple[float, int]], expected: float) -> None:
    given = [(round(value * MICRO), weight) for value, weight in views]
    assert consensus(round(own * MICRO), given) == round(expected * MICRO)


@given(st.lists(st.tuples(st.integers(0, MICRO), st.integers(0, MOST)), max_size=12), st.integers(0, MICRO))
def test_the_median_is_somebodys_view_whatever_their_order(views: list[tuple[int, int]], own: int) -> None:
    found = consensus(own, views)
    assert found in [own, *(value for value, weight in views if weight >= LEAST)]
    assert found == consensus(own, reversed(views))


def test_of_whom_nothing_is_known_it_is_one_half() -> None:
    assert Reputation(OWN).of(SUBJECT) == START == MICRO // 2


def test_own_experience_moves_it_and_settles() -> None:
    reputation = Reputation(OWN)
    for _ in range(20):
        reputation.experienced(SUBJECT, good=True)
    assert reputation.of(SUBJECT) > 0.98 * MICRO
    before = reputation.of(SUBJECT)
    reputation.experienced(SUBJECT, good=False)
    assert 0.7 * MICRO < reputation.of(SUBJECT) < before
    assert reputation.own_view(SUBJECT)[1] == 21


def test_one_liar_who_declares_a_billion_moves_nothing() -> None:
    reputation = Reputation(OWN)
    honest = [key(number) for number in range(3)]
    for observer in honest:
        customer(reputation, observer, 10)
        assert reputation.take(observation(observer, 0.9), NOW)
    before = reputation.of(SUBJECT)
    liar = key(99)
    assert not reputation.take(observation(liar, 0.0, sessions=10**9), NOW), "it never bought anything"
    customer(reputation, liar, 1)
    assert reputation.take(observation(liar, 0.0, sessions=10**9), NOW)
    assert reputation.of(SUBJECT) == before == 0.9 * MICRO
    customer(reputation, liar, 10)
    reputation.take(observation(liar, 0.0, sessions=10**9, at_ms=NOW + 1), NOW)
    assert reputation.of(SUBJECT) == before, "and as a customer it is one of four"


def test_a_session_counts_once_however_many_vouchers_were_countersigned() -> None:
    reputation = Reputation(OWN)
    for _ in range(50):
        reputation.traded(trade(key(1), 7))
    assert reputation.weight(key(1), SUBJECT) == 1


def test_nobody_weighs_more_than_the_most() -> None:
    reputation = Reputation(OWN)
    customer(reputation, key(1), 3 * MOST)
    assert reputation.weight(key(1), SUBJECT) == MOST


def test_what_is_no_news() -> None:
    reputation = Reputation(OWN)
    for observer in (OWN, SUBJECT, key(1)):
        customer(reputation, observer, 10)
    assert not reputation.take(observation(OWN, 1.0), NOW), "its own opinion comes from nobody"
    assert not reputation.take(observation(SUBJECT, 1.0), NOW), "nobody observes itself"
    assert not reputation.take(observation(key(1), 1.0, at_ms=NOW + APART_MS + 1), NOW), "of the future"
    assert reputation.take(observation(key(1), 1.0), NOW)
    assert not reputation.take(observation(key(1), 0.0), NOW), "not newer"
    assert reputation.take(observation(key(1), 0.2, at_ms=NOW + 1), NOW)
    assert reputation.of(SUBJECT) == 0.2 * MICRO


def test_a_crowd_of_light_observers_does_not_push_out_a_heavy_one() -> None:
    reputation = Reputation(OWN)
    customer(reputation, key(0), 50)
    reputation.take(observation(key(0), 0.9), NOW)
    for number in range(1, 4 * OBSERVERS):
        customer(reputation, key(number), 1)
        reputation.take(observation(key(number), 0.0), NOW)
    assert reputation.of(SUBJECT) == 0.9 * MICRO


def test_the_mean_is_over_those_something_was_heard_of_last() -> None:
    reputation = Reputation(OWN)
    assert reputation.mean() == START, "nobody is known"
    reputation.traded(trade(key(1), 1))
    assert reputation.mean() == START, "who merely traded was not judged"
    reputation.experienced(key(2), good=True)
    reputation.experienced(key(3), good=False)
    reputation.experienced(key(3), good=False)
    assert reputation.mean() == (reputation.of(key(2)) + reputation.of(key(3))) // 2 == 460_000
    for number in range(AVERAGED):
        reputation.experienced(number.to_bytes(32, "big"), good=True)
    assert reputation.mean() == 600_000, "the two from before are not counted any more"
