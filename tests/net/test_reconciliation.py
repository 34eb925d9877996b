"""Two sides end with the same knowledge of the difference, whatever their sets; a hostile one ends with one error."""

import random
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.net.refused import REFUSED, A, B, message
from tests.net.sets import idset, name, reconciled
from tirami.core.errors import InvalidReconciliation
from tirami.ledger.columns import RecordIds
from tirami.net import reconciliation
from tirami.net.idset import BUCKET, NOTHING, IdSet
from tirami.net.reconciliation import EFFORT, Reconciliation
from tirami.proto.reconciliation import Fingerprint, ReconciliationMessage, decode_message, encode_message

CLOSE = st.binary(max_size=2).map(lambda tail: tail.ljust(2, b"\0").rjust(32, b"\7"))
"""Ids that share 30 bytes: bounds are long."""
SETS = st.frozensets(st.one_of(st.integers(0, 400).map(name), CLOSE), max_size=200)


def known(first: set[bytes] | frozenset[bytes], second: set[bytes] | frozenset[bytes]) -> None:
    ended = reconciled(idset(first), idset(second))
    for side, (mine, theirs) in enumerate(((first, second), (second, first))):
        assert sorted(ended.lacking[side]) == sorted(theirs - mine), "each once"
        assert sorted(ended.surplus[side]) == sorted(mine - theirs), "each once"


@given(SETS, SETS)
@settings(max_examples=300, deadline=None)
def test_both_learn_exactly_the_difference(first: frozenset[bytes], second: frozenset[bytes]) -> None:
    known(first, second)


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_large_sets(common: int, first: int, second: int, seed: int) -> None:
    draw = random.Random(seed)
    names = [draw.randbytes(32) for _ in range(common + first + second)]
    known(set(names[: common + first]), set(names[:common] + names[common + first :]))


@given(SETS, SETS, st.integers(1, 16), st.integers(32, 80))
@settings(max_examples=100, deadline=None)
def test_any_bounds(first: frozenset[bytes], second: frozenset[bytes], extra: int, ids: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciliation, "MAX_RANGES", reconciliation.PARTS + extra)
        patch.setattr(reconciliation, "MAX_IDS", ids)
        known(first, second)


@cache
def hundred_thousand() -> IdSet:
    return idset(map(name, range(100_000)))


@pytest.mark.parametrize("difference", [0, 1, 100, 10_000])
def test_cost_follows_the_difference(difference: int) -> None:
    first = hundred_thousand()
    second = idset(map(name, range(difference - difference // 2, 100_000 + difference // 2)))
    ended = reconciled(first, second)
    print(f"10^5 ids, {difference} differ: {ended.sent} bytes in {ended.messages} messages, largest {ended.largest}")
    assert len(ended.lacking[0]) + len(ended.lacking[1]) == difference
    assert ended.sent <= 100 + 4_000 * min(difference, 1_000) + 400 * difference
    assert ended.messages <= 8 + ended.sent // 20_000


@given(st.lists(st.integers(0, 2_000), max_size=600), st.binary(max_size=2), st.binary(max_size=2), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_set_answers_like_a_plain_one(numbers: list[int], lower: bytes, upper: bytes, bulk: bool) -> None:
    ids, plain = RecordIds(), {name(number) for number in numbers}
    places = [ids.add(one) for one in {name(number): None for number in numbers}]
    loaded = len(places) // 2 if bulk else 0
    held = IdSet(ids, places[:loaded])
    for position, place in enumerate(places[loaded:]):
        assert held.add(place)
        assert not held.add(place)
        if position % 50 == 0:
            held.fingerprint()
    inside = sorted(one for one in plain if one >= lower and (not upper or one < upper))
    if not upper or lower < upper:
        assert list(held.between(lower, upper)) == inside
        assert held.count(lower, upper) == len(inside)
        assert held.fingerprint(lower, upper) == idset(inside).fingerprint()
        if len(inside) >= 4:
            parts = list(held.cut(lower, upper, 4))
            assert (parts[0][0], parts[-1][1]) == (lower, upper)
            assert all(held.count(*part) in (len(inside) // 4, len(inside) // 4 + 1) for part in parts)
    assert len(held) == len(plain)
    assert all(one in held for one in plain)
    assert name(9_999) not in held


def test_ids_that_were_ground_into_one_place() -> None:
    ids = RecordIds()
    held = IdSet(ids)
    for number in range(20 * BUCKET):
        held.add(ids.add(bytes(28) + number.to_bytes(4)))
    assert list(held.between()) == sorted(held.between())
    assert max(map(len, held._buckets)) <= BUCKET


def test_ids_outside_the_set_do_not_count() -> None:
    """Local records stand in the same columns and are nobody else's business."""
    ids = RecordIds()
    held = IdSet(ids, [ids.add(name(1))])
    ids.add(name(2))
    assert name(2) not in held
    assert list(held.between()) == [name(1)]


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_hostile_messages_end_with_one_error(data: bytes) -> None:
    with pytest.raises(InvalidReconciliation) as caught:
        Reconciliation(idset([A, B])).step(data)
    assert caught.value.param


def test_a_side_that_never_ends_is_left() -> None:
    side = Reconciliation(idset(map(name, range(100))), max_messages=50)
    endless = message(Fingerprint(b"", b"", b"\xee" * 16))
    for _ in range(50):
        side.step(endless)
    with pytest.raises(InvalidReconciliation, match="does not end"):
        side.step(endless)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_answered(data: bytes) -> None:
    try:
        step = Reconciliation(idset(map(name, range(50)))).step(data)
    except InvalidReconciliation:
        return
    assert step.reply is None or decode_message(step.reply)


def test_the_work_of_a_hostile_side_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal fingerprints without end: every message is small, and what waits for an answer does not grow for ever."""
    monkeypatch.setattr(reconciliation, "MAX_WORK", 2_000)
    side = Reconciliation(idset(map(name, range(20_000))))
    bounds = [b"", *(bytes([i]) for i in range(1, 256)), b""]
    full = message(*(Fingerprint(a, b, b"\xee" * 16) for a, b in pairwise(bounds)))
    with pytest.raises(InvalidReconciliation, match="more than can be answered"):
        for _ in range(20):
            step = side.step(full)
            assert step.reply is not None
            assert len(step.reply) <= 64 * 1024
            assert len(side._work) <= 2_000


def test_a_message_makes_little_work_whatever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up fingerprints cost their sender nothing, and an empty message asks for the next answers."""
    side, made = Reconciliation(idset(map(name, range(20_000)))), 0
    below = IdSet._below

    def counted(self: IdSet, bound: bytes, *, end: bool = False) -> int:
        nonlocal made
        made += 1
        return below(self, bound, end=end)

    monkeypatch.setattr(IdSet, "_below", counted)
    bounds = [b"", *(bytes([i]) for i in range(1, 256)), b""]
    said = message(*(Fingerprint(a, b, b"\xee" * 16) for a, b in pairwise(bounds)))
    for _ in range(50):
        made = 0
        assert side.step(said).reply is not None
        assert made <= 3 * EFFORT
        said = encode_message(ReconciliationMessage((), more=True))


def test_the_empty_fingerprint() -> None:
    assert idset([]).fingerprint() == NOTHING
