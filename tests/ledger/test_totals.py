"""The tree of totals against plain sums, and its depth."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tirami.ledger.totals import UNSTATED, Totals

NUMBERS = st.integers(0, 40)
STEPS = st.lists(st.tuples(st.sampled_from(["raise", "state", "shift", "discard"]), NUMBERS, st.integers(-9, 99)))


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_it_answers_like_plain_sums(steps: list[tuple[str, int, int]]) -> None:
    totals, amounts, slacks = Totals(), dict[int, int](), dict[int, int]()
    for step, number, value in steps:
        match step:
            case "raise":
                totals.raise_amount(number, value)
                amounts[number] = amounts.get(number, 0) + value
            case "state":
                totals.state(number, value)
                slacks[number] = value
            case "shift":
                totals.shift(number, value)
                slacks = {key: slack + value * (key > number) for key, slack in slacks.items()}
            case "discard":
                totals.raise_amount(number, -amounts.get(number, 0))
                amounts.pop(number, None)
                slacks.pop(number, None)
                totals.discard(number)
        assert totals.below(number) == sum(amount for key, amount in amounts.items() if key < number)
        slack, where = totals.lowest()
        if slacks:
            assert slack == min(slacks.values()) == slacks[where]
        else:
            assert slack > UNSTATED // 2


def test_no_order_of_numbers_makes_it_deep() -> None:
    for numbers in (range(5_000), range(5_000, 0, -1), [n * 7_919 % 5_000 for n in range(5_000)]):
        totals = Totals()
        for number in numbers:
            totals.raise_amount(number, 1)
        assert totals.below(1 << 64) == 5_000
        assert max(len(totals._path(number)) for number in range(1, 5_000, 37)) <= 26


def test_what_is_forgotten_takes_no_room() -> None:
    totals = Totals()
    for number in range(10_000):
        totals.raise_amount(number, 1)
        if number >= 100:
            totals.raise_amount(number - 100, -1)
            totals.discard(number - 100)
    assert len(totals) <= 210
