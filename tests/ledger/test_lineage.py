"""What a journal made itself, and what peers remember of it: an old copy of it is found out by either (B9)."""

import pytest

from tirami.core.units import Trm, UnixMs
from tirami.ledger.lineage import AHEAD_MS, RESTART_MS, Lineage
from tirami.ledger.sightings import Sightings

KEY = b"k" * 32


def lineage(*numbers: int) -> Lineage:
    made = Lineage()
    for number in numbers:
        made.make(KEY, 0, number)
    return made


def test_a_number_that_was_not_given_here_was_signed_elsewhere() -> None:
    own = lineage(1, 2, 3, 9)
    assert all(own.made(KEY, 0, number) for number in (1, 2, 3, 9))
    assert not any(own.made(KEY, 0, number) for number in (4, 8, 10))
    assert not own.made(KEY, 1, 2) and not own.made(b"x" * 32, 0, 2)
    assert not own.lost
    assert own.elsewhere(KEY, 0, 4, UnixMs(0), 7) == 7
    assert own.elsewhere(KEY, 0, 4, UnixMs(0), 9) == 2, "of several vouchers the highest counts"
    assert own.lost


def test_more_than_a_session_was_closed_at_was_signed_elsewhere() -> None:
    """A start found it open; where it went on in another copy, the number is the same and the amount is not."""
    own = lineage(1, 2)
    own.break_off(KEY, 0, 2, Trm(5))
    assert own.made(KEY, 0, 2) and own.made(KEY, 0, 2, 5)
    assert not own.made(KEY, 0, 2, 6)
    assert own.made(KEY, 0, 1, 6), "this one ended here"
    assert own.elsewhere(KEY, 0, 2, UnixMs(0), 12) == 7, "the five are settled already"
    assert own.elsewhere(KEY, 0, 2, UnixMs(0), 12) == 0


def test_a_new_incarnation_begins_at_most_once_a_week() -> None:
    own = lineage(1)
    assert own.may_restart(0)
    own.start(5, UnixMs(1_000))
    assert not own.may_restart(1_000 + RESTART_MS - 1) and own.may_restart(1_000 + RESTART_MS)


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([(0, 1, 0, True)], [1]),
        ([(0, 1, 0, True), (0, 1, 5, True), (0, 1, 9, True)], [3]),
        ([(0, 1, 0, True), (0, 2, 0, True), (0, 1, 5, True)], [2, 3]),
        ([(0, 2, 4, False), (0, 1, 9, False)], [1]),
        ([(0, 1, 0, True), (0, 1, 5, True), (0, 3, 7, False), (0, 2, 8, False)], [3, 2]),
        ([(0, 1, 5, True), (1, 1, 0, False)], [2, 1]),
        ([(0, 1, 0, True), (0, 1, 5, True), (0, 1, 5, False)], [2]),
        ([(0, 1, 0, True), (0, 1, 5, True), (0, 1, 4, False)], [2]),
    ],
    ids=["acceptance", "vouchers", "another goes on", "records", "records of others", "incarnation", "same", "lower"],
)
def test_shown_is_the_highest_and_the_last(steps: list[tuple[int, int, int, bool]], shown: list[int]) -> None:
    seen = Sightings()
    for seq, (incarnation, number, amount, claim) in enumerate(steps, 1):
        seen.see(KEY, incarnation, number, seq, UnixMs(seq), amount, claim=claim)
    sighting = seen.get(KEY)
    assert sighting is not None
    assert list(sighting.shown) == shown


def test_a_key_that_is_given_up_binds_no_other_and_the_others_begin_anew_at_once() -> None:
    own = lineage(1)
    own.start(5, UnixMs(1_000))
    own.elsewhere(KEY, 7, 1, UnixMs(1_000))
    own.elsewhere(b"quota" + KEY, 9, 1, UnixMs(1_000))
    assert (own.lost, own.newest, own.may_restart(1_001)) == (True, 9, False)
    own.give_up(KEY)
    assert (own.lost, own.newest, own.may_restart(1_001)) == (True, -1, True)
    own.start(6, UnixMs(1_001))
    assert not own.lost and not own.may_restart(1_002)


def test_what_signs_elsewhere_before_a_new_incarnation_is_forgotten_with_the_old_one() -> None:
    own, other = lineage(1), b"x" * 32
    own.elsewhere(KEY, 0, 2, UnixMs(0))
    own.elsewhere(other, 8, 2, UnixMs(0))
    own.start(3, UnixMs(0))
    assert own.lost and not own.says_more(KEY, 2) and own.says_more(KEY, 3)
    own.start(9, UnixMs(0))
    assert not own.lost
    own.elsewhere(other, 8, 3, UnixMs(0))
    assert not own.lost


@pytest.mark.parametrize(("incarnation", "taken"), [(AHEAD_MS, False), (AHEAD_MS + 1, True), ((1 << 64) - 1, True)])
def test_who_signs_where_no_clock_stands_has_the_key_and_not_the_journal(incarnation: int, taken: bool) -> None:
    own = lineage(1)
    own.elsewhere(b"quota" + KEY, incarnation, 1, UnixMs(0))
    assert own.lost and own.may_restart(0), "it may have the journal all the same: once, the others begin anew"
    assert own.taken(KEY) is own.taken(b"quota" + KEY) is taken
    own.start(max(own.incarnation, own.newest) + 1, UnixMs(0))
    assert own.incarnation == (1 if taken else incarnation + 1)
    assert not own.lost
    own.elsewhere(KEY, own.incarnation, 1, UnixMs(0))
    assert own.lost is not taken


def test_the_last_incarnation_is_nobodys() -> None:
    own = Lineage()
    own.start((1 << 64) - 2, UnixMs(0))
    own.elsewhere(KEY, (1 << 64) - 1, 1, UnixMs(0))
    assert own.taken(KEY) and own.newest == -1
    own.start((1 << 64) - 1, UnixMs(0))
    own.elsewhere(b"x" * 32, (1 << 64) - 1, 1, UnixMs(0))
    assert own.lost and not own.may_restart(RESTART_MS), "there is none after it"
