"""Who gives way: never one in use, never more than needed, the least recently used first."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tirami.node.engines import budget
from tirami.node.engines.budget import (
    LONGEST_STAY_S,
    Resident,
    budget_bytes,
    machine_memory_bytes,
    next_leave_s,
    stay_s,
    to_unload,
)

costs = st.integers(0, 50)
NOW = 10.0


@st.composite
def residents(draw: st.DrawFn) -> list[Resident]:
    count = draw(st.integers(0, 6))
    times = draw(st.permutations(range(count)))
    stays = st.sampled_from([0.0, NOW, NOW + 1])
    return [Resident(str(i), draw(costs), draw(st.booleans()), float(times[i]), draw(stays)) for i in range(count)]


def may_go(resident: Resident) -> bool:
    return not resident.in_use and resident.stays_until <= NOW


def left(rooms: list[Resident], going: tuple[str, ...]) -> int:
    return sum(resident.cost for resident in rooms if resident.name not in going)


@given(residents(), costs, st.integers(0, 200))
def test_the_budget_holds_and_nobody_in_use_goes(rooms: list[Resident], needed: int, limit: int) -> None:
    going = to_unload(rooms, needed, limit, NOW)
    idle = {resident.name for resident in rooms if may_go(resident)}
    if going is None:
        assert left(rooms, tuple(idle)) + needed > limit, "it said no although the idle ones would have been enough"
        return
    assert set(going) <= idle
    assert len(set(going)) == len(going)
    assert left(rooms, going) + needed <= limit


@given(residents(), costs, st.integers(0, 200))
def test_nobody_goes_in_vain(rooms: list[Resident], needed: int, limit: int) -> None:
    going = to_unload(rooms, needed, limit, NOW)
    for name in going or ():
        assert left(rooms, tuple(other for other in going or () if other != name)) + needed > limit
    if sum(resident.cost for resident in rooms) + needed <= limit:
        assert going == ()


@given(residents(), costs, st.integers(0, 200))
def test_one_used_later_stays_while_an_earlier_one_of_its_size_could_go(
    rooms: list[Resident], needed: int, limit: int
) -> None:
    going = to_unload(rooms, needed, limit, NOW) or ()
    by_name = {resident.name: resident for resident in rooms}
    for name in going:
        for other in rooms:
            if not may_go(other) or other.name in going or other.cost < by_name[name].cost:
                continue
            assert other.last_used > by_name[name].last_used


@given(residents(), costs, st.integers(0, 200))
def test_the_order_they_are_named_in_does_not_matter(rooms: list[Resident], needed: int, limit: int) -> None:
    assert to_unload(rooms, needed, limit, NOW) == to_unload(rooms[::-1], needed, limit, NOW)


@given(residents(), costs, st.integers(0, 200))
def test_it_says_yes_exactly_when_some_set_of_idle_ones_is_enough(
    rooms: list[Resident], needed: int, limit: int
) -> None:
    idle = [resident.name for resident in rooms if may_go(resident)]
    sets = (chosen for size in range(len(idle) + 1) for chosen in combinations(idle, size))
    possible = any(left(rooms, chosen) + needed <= limit for chosen in sets)
    assert (to_unload(rooms, needed, limit, NOW) is not None) == possible


def test_by_hand() -> None:
    old, big, new = Resident("old", 10, False, 1), Resident("big", 40, False, 2), Resident("new", 10, False, 3)
    assert to_unload([new, big, old], 10, 60, NOW) == ("old",)
    assert to_unload([new, big, old], 40, 60, NOW) == ("big",), "old alone would not do, and with big it is not needed"
    assert to_unload([new, big, old], 60, 60, NOW) == ("old", "big", "new")
    assert to_unload([new, big, Resident("used", 10, True, 0)], 60, 60, NOW) is None


def test_one_that_was_just_loaded_stays_for_a_while() -> None:
    young, old = Resident("young", 40, False, 1, NOW + 3), Resident("old", 20, False, 2, NOW)
    assert to_unload([young, old], 20, 60, NOW) == ("old",)
    assert to_unload([young, old], 60, 60, NOW) is None
    assert to_unload([young, old], 60, 60, NOW + 3) == ("young", "old")


def test_how_long_until_the_next_may_go() -> None:
    rooms = [Resident(str(left), 1, left == 1, 0, NOW + left) for left in (-5, 0, 1, 4, 9)]
    assert next_leave_s(rooms, NOW) == 4, "the one in use does not go by time alone"
    assert next_leave_s(rooms[:3], NOW) is None


def test_a_model_stays_twice_as_long_as_it_took_to_load_and_no_minute_more() -> None:
    assert [stay_s(took) for took in (0, 1.5, 30, 500)] == [0, 3, LONGEST_STAY_S, LONGEST_STAY_S]


def test_the_budget_is_what_was_said_or_a_share_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    assert budget_bytes(100) == 100 << 20
    assert 0 < budget_bytes(0) == machine_memory_bytes() * 3 // 4


@pytest.mark.parametrize(("text", "limit"), [("1048576\n", 1 << 20), ("max\n", None), ("", None)])
def test_a_container_has_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, text: str, limit: int | None
) -> None:
    file = tmp_path_factory.mktemp("cgroup") / "memory.max"
    file.write_text(text)
    monkeypatch.setattr(budget, "_CGROUP", file)
    whole = machine_memory_bytes()
    assert whole == limit if limit else whole > 1 << 20
