"""Debits of one account against plain lists: any order of arrival, applied, taken back, replaced."""

import pickle
import random as random_module
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tirami.core.units import Trm
from tirami.ledger import Debit, Debits, key_account, ranked
from tirami.ledger.demands import ABSENT, Demands, Order

PAYEE = key_account(bytes(32))


def debit(number: int, amount: int, declared: int, *, on_credit: bool = True, tie: int = 0) -> Debit:
    name = sha256(repr((number, amount, declared, on_credit, tie)).encode()).digest()
    order = (number % 3, number, name if tie else b"")
    return Debit(order, name, Trm(amount), Trm(declared), PAYEE, on_credit, progress=amount)


@dataclass
class Naive:
    """The rule as it stands in PROTOCOL B2, by walking over everything."""

    demands: Demands
    places: list[int] = field(default_factory=list)

    def add(self, place: int) -> None:
        self.places = sorted([*self.places, place], key=self.demands.order)

    def replace(self, previous: int, place: int) -> None:
        self.places[self.places.index(previous)] = place

    def at(self, order: Order) -> int | None:
        return next((place for place in self.places if self.demands.order(place) == order), None)

    def below(self, place: int) -> int:
        return sum(self.demands.amount(one) for one in self.places[: self.places.index(place)])

    def covers(self, place: int, income: int, credit: int) -> bool:
        need = max(self.demands.declared(place), self.below(place)) + self.demands.amount(place)
        return income + (credit if self.demands.on_credit(place) else 0) >= need

    def funded(self, income: int, credit: int) -> list[int]:
        waiting = [place for place in self.places if not self.demands.applied(place)]
        return [place for place in waiting if self.covers(place, income, credit)]

    def raised_by(self, place: int) -> bool:
        later = self.places[self.places.index(place) + 1 :]
        return any(self.demands.applied(one) and self.below(one) > self.demands.declared(one) for one in later)


def sums(part: ranked._Leaf | ranked._Branch, demands: Demands, added: list[int]) -> list[int]:
    """Places of a part, whose sums are those of all of them; what is asked, but by those just added, may be less."""
    if isinstance(part, ranked._Leaf):
        places = list(part.places)
    else:
        places = [place for each in part.parts for place in sums(each, demands, added)]
    assert part.total == demands.total(places)
    assert part.slack == demands.slack(places) or min(part.slack, demands.slack(places)) > ABSENT // 2, "of none"
    asked = demands.asked([place for place in places if place not in added])
    assert all(bound <= least for bound, least in zip(part.asked, asked, strict=True))
    return places


class Both:
    """The real one and the naive one, asked the same after every step."""

    def __init__(self) -> None:
        self.demands = Demands()
        self.debits = Debits(self.demands)
        self.naive = Naive(self.demands)

    def add(self, new: Debit) -> None:
        rival = self.debits.at(new.order)
        assert rival == self.naive.at(new.order)
        place = self.demands.add(new)
        if rival is not None:
            if self.demands.applied(rival):
                self.unapply(rival)
            self.debits.replace(rival, place)
            self.naive.replace(rival, place)
        else:
            self.naive.add(place)
            assert self.debits.add(place) == (self.naive.places[-1] == place)
        assert self.debits.raised_by(place) == self.naive.raised_by(place)

    def unapply(self, place: int) -> None:
        self.demands.unapply(place)
        self.debits.wait(place)

    def take(self, income: int, credit: int) -> None:
        expected, turns = self.naive.funded(income, credit), self.demands._turns
        assert self.debits.take_funded(Trm(income), Trm(credit)) == expected
        assert [self.demands.turn(place) for place in expected] == [*range(turns + 1, turns + 1 + len(expected))]

    def snapshot(self) -> None:
        """What is read back goes on as the other would have."""
        self.demands, self.debits = pickle.loads(pickle.dumps((self.demands, self.debits)))
        self.naive.demands = self.demands

    def check(self, income: int, credit: int) -> None:
        demands, places = self.demands, self.naive.places
        assert list(self.debits._ranked) == places
        assert self.debits.known == sum(map(demands.amount, places))
        assert self.debits.waiting == sum(not demands.applied(place) for place in places)
        for place in places:
            assert self.debits.at(demands.order(place)) == place
            assert self.debits._ranked.below(place) == self.naive.below(place)
            assert self.debits.raised_by(place) == self.naive.raised_by(place)
            assert self.debits.covers(place, Trm(income), Trm(credit)) == self.naive.covers(place, income, credit)
        sums(self.debits._ranked._top, demands, self.debits._added)
        assert self.debits.at((9, 9, b"")) is None
        assert self.debits.at((0, -1, b"")) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "beyond", "take", "unapply", "apply", "snapshot"]),
        st.integers(0, 60),
        st.integers(1, 30),
        st.integers(0, 400),
        st.booleans(),
    ),
    max_size=80,
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small parts."""
    monkeypatch.setattr(ranked, "PLACES", 4)
    monkeypatch.setattr(ranked, "PARTS", 3)


@pytest.mark.usefixtures("narrow")
@given(STEPS)
@settings(max_examples=examples(300), deadline=None)
def test_it_answers_like_plain_lists(steps: list[tuple[str, int, int, int, bool]]) -> None:
    both = Both()
    for step, number, amount, total, flag in steps:
        applied = [place for place in both.naive.places if both.demands.applied(place)]
        waiting = [place for place in both.naive.places if not both.demands.applied(place)]
        match step:
            case "add":
                both.add(debit(number, amount, total, on_credit=flag, tie=amount % 2))
                if flag:
                    both.take(total, amount)
            case "beyond":
                both.add(debit(number, amount, total + (1 << 64)))
            case "take":
                both.take(total, 10 * amount)
            case "snapshot":
                both.snapshot()
            case "unapply" if applied:
                both.unapply(applied[number % len(applied)])
            case "apply" if waiting:
                both.demands._turns += 1
                both.debits.apply(waiting[number % len(waiting)], both.demands._turns)
        both.check(total, amount)
    both.take(1 << 70, 0)
    assert both.debits.waiting == 0


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("seed", range(8))
def test_a_long_life_of_many_parts(seed: int) -> None:
    random, both = random_module.Random(seed), Both()
    for step in range(400):
        both.add(
            debit(random.randrange(300), random.randint(1, 9), random.randrange(900), on_credit=random.random() < 0.7)
        )
        if random.random() < 0.8:
            both.take(random.randrange(2_000), random.randrange(100))
        applied = [place for place in both.naive.places if both.demands.applied(place)]
        if applied and random.random() < 0.3:
            both.unapply(random.choice(applied))
        if step % 60 == 0:
            both.snapshot()
        if step % 40 == 0:
            both.check(random.randrange(2_000), 50)
    both.check(700, 50)


class Counted(Demands):
    """Counts how many debits are looked at."""

    looks = 0

    def order(self, place: int) -> Order:
        self.looks += 1
        return super().order(place)

    def amount(self, place: int) -> Trm:
        self.looks += 1
        return super().amount(place)

    def total(self, places: Sequence[int]) -> int:
        self.looks += len(places)
        return super().total(places)

    def slack(self, places: Sequence[int]) -> int:
        self.looks += len(places)
        return super().slack(places)

    def asked(self, places: Sequence[int]) -> tuple[int, int]:
        self.looks += len(places)
        return super().asked(places)


ARRIVALS: dict[str, Callable[[int], Iterable[int]]] = {
    "in order": lambda count: range(count),
    "in reverse": lambda count: range(count - 1, -1, -1),
    "at random": lambda count: random_module.Random(1).sample(range(count), count),
}


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("count", [1_000, 8_000])
def test_what_comes_late_costs_a_leaf_and_a_way_down(arrival: str, count: int) -> None:
    """Of eight thousand debits as of a thousand; counted, not timed."""
    demands = Counted()
    debits, most = Debits(demands), 0
    for number in ARRIVALS[arrival](count):
        before = demands.looks
        new = Debit((0, number, b""), sha256(number.to_bytes(8)).digest(), Trm(1), Trm(number), PAYEE, on_credit=True)
        assert debits.at(new.order) is None
        place = demands.add(new)
        if not debits.add(place):
            assert not debits.raised_by(place)
        assert debits.take_funded(Trm(0), Trm(count)) == [place]
        most = max(most, demands.looks - before)
    assert most <= 8 * ranked.PLACES
    assert demands.looks / count <= (8 if arrival == "in order" else 4 * ranked.PLACES)


def test_of_many_that_wait_those_are_looked_at_that_apply() -> None:
    """Each asks for one TRM more than the one before; half are more than that TRM short, by what they declared."""
    demands, count = Counted(), 4_000
    debits = Debits(demands)
    for number in range(count):
        declared = number if number % 2 else 10 * count
        name = sha256(number.to_bytes(8)).digest()
        debits.add(demands.add(Debit((0, number, b""), name, Trm(1), Trm(declared), PAYEE, on_credit=number % 3 > 0)))
    assert debits.take_funded(Trm(0), Trm(0)) == []
    for income in range(1, count, 7):
        before = demands.looks
        taken = debits.take_funded(Trm(income), Trm(0))
        assert all(demands.declared(place) < income for place in taken)
        assert demands.looks - before <= 16 * ranked.PLACES
    assert debits.waiting < count // 2 + 8
