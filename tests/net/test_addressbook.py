"""The address book: bounded, fair to sources, never talked out of what works."""

from collections.abc import Iterator
from random import Random

import pytest

from tirami.core.keys import SigningKey
from tirami.core.units import DAY_MS, UnixMs
from tirami.net import PeerAddress
from tirami.net.addressbook import (
    HEARD_TRIES,
    MAX_KNOWN,
    MAX_OF_SOURCE,
    MAX_WAYS,
    MET_TRIES,
    TOLD_MS,
    AddressBook,
    Trust,
    believed,
    seen,
)
from tirami.proto import PeerSeen

NOW = UnixMs(1_800_000_000_000)
OWN = SigningKey.generate().public_key
KEYS = [SigningKey.from_seed(number.to_bytes(32, "big")).public_key for number in range(1, 2_400)]


def at(number: int, *ways: str) -> PeerAddress:
    return PeerAddress(KEYS[number], ways or (f"8.8.{number >> 8}.{number & 255}:4433",))


def free(_: str) -> None:
    return None


def book() -> AddressBook:
    return AddressBook(OWN, Random(1))


def test_one_source_fills_its_share_and_no_more() -> None:
    known = book()
    assert known.hear("a", [at(number) for number in range(500)], Trust.FAR) == MAX_OF_SOURCE
    assert known.hear("a", [at(600)], Trust.FAR) == 0
    assert known.hear("b", [at(600)], Trust.FAR) == 1


def test_who_was_met_stays_when_liars_fill_the_book() -> None:
    known = book()
    for number in range(100):
        known.met(at(number), NOW)
    for source in range(40):
        known.hear(str(source), [at(100 + 50 * source + n) for n in range(50)], Trust.FAR)
    assert len(known) == MAX_KNOWN
    assert all(known.get(KEYS[number]) for number in range(100))
    for number in range(1_000, 2_300):
        known.met(at(number), NOW)
    assert len(known) == MAX_KNOWN


def test_what_works_is_not_talked_away() -> None:
    known = book()
    known.met(at(1), NOW)
    known.hear("liar", [at(1, "9.9.9.9:9")], Trust.FAR)
    entry = known.get(KEYS[1])
    assert entry is not None and entry.address == at(1)
    known.failed(KEYS[1], 0.0)
    known.hear("friend", [at(1, "9.9.9.9:9")], Trust.FAR)
    assert set(entry.address.direct) == {*at(1).direct, "9.9.9.9:9"}


LIES = [tuple(f"9.9.{number}.{host}:9" for host in range(MAX_WAYS)) for number in range(3)]


def test_where_a_node_was_met_is_not_talked_away_while_it_is_down() -> None:
    """Least of all of one that was vouched for: after a restart it is called there."""
    known = book()
    known.met(at(1), NOW)
    known.pin(at(1), "inviter")
    known.failed(KEYS[1], 0.0)
    for number, lies in enumerate(LIES):
        known.hear(f"liar {number}", [at(1, *lies)], Trust.FAR)
    (told,) = known.pinned("inviter")
    assert at(1).direct[0] in told.direct
    assert set(LIES[2]) & set(told.direct), "it may have moved: what was said last is tried as well"


def test_what_one_source_says_of_a_node_another_does_not_take_back() -> None:
    """Its calls in vain would count against whoever spoke the truth."""
    known = book()
    known.hear("honest", [at(1)], Trust.FAR)
    for number, lies in enumerate(LIES):
        known.hear(f"liar {number}", [at(1, *lies)], Trust.FAR)
    known.hear("late", [at(1, "8.8.8.8:8")], Trust.FAR)
    entry = known.get(KEYS[1])
    assert entry is not None and {*at(1).direct, "8.8.8.8:8"} < set(entry.address.direct)
    known.hear("honest", [at(1, "8.8.4.4:4")], Trust.FAR)
    assert entry.address.direct[0] == "8.8.4.4:4"


def test_another_relay_that_the_owner_names_takes_the_place_of_the_first() -> None:
    known = book()
    for relay in ("https://old.example/", "https://new.example/"):
        known.hear("network file", [PeerAddress(KEYS[1], at(1).direct, relay)], Trust.OWNER)
    known.hear("liar", [at(1, "9.9.9.9:9")], Trust.FAR)
    entry = known.get(KEYS[1])
    assert entry is not None and entry.address.relay == "https://new.example/"


def test_of_those_never_met_the_oldest_goes_whatever_its_key() -> None:
    """A key that sorts last costs nothing, and is no way to stay."""
    known, last = book(), sorted(range(MAX_KNOWN + 1), key=KEYS.__getitem__, reverse=True)
    for place, number in enumerate(last):
        known.hear(f"source {place // MAX_OF_SOURCE}", [at(number)], Trust.FAR)
    assert known.get(KEYS[last[0]]) is None
    assert all(known.get(KEYS[number]) for number in last[1:])


def test_whoever_comes_under_ever_new_keys_displaces_itself() -> None:
    known = book()
    honest, of_one_host = range(100), range(100, 2_300)
    for number in honest:
        known.met(at(number, f"11.{number}.0.1:4433"), NOW)
    known.met(at(2_350, "192.168.1.2:4433"), NOW)
    for number in of_one_host:
        known.met(at(number, f"8.8.8.8:{number}"), UnixMs(NOW + number))
    assert len(known) == MAX_KNOWN
    assert all(known.get(KEYS[number]) for number in (*honest, 2_350, of_one_host[-1]))


def test_the_dead_are_asked_ever_more_seldom_and_forgotten() -> None:
    known, now, tries = book(), 0.0, []
    known.hear("a", [at(1)], Trust.FAR)
    known.met(at(2), NOW)
    while len(known):
        for address in known.candidates(4, now, (), free):
            tries.append((address.key, now))
            known.failed(address.key, now)
        now += 1
    of = {number: [when for key, when in tries if key == KEYS[number]] for number in (1, 2)}
    assert (len(of[1]), len(of[2])) == (HEARD_TRIES, MET_TRIES)
    pauses = [b - a for a, b in zip(of[2], of[2][1:], strict=False)]
    assert pauses == sorted(pauses) and pauses[0] >= 30 and max(pauses) == 3600


def test_failures_of_a_node_that_is_alone_count_only_against_who_was_never_met() -> None:
    """It may be its own link that is down."""
    known = book()
    known.hear("a", [at(1)], Trust.FAR)
    known.met(at(2), NOW)
    for tries in range(100):
        known.failed(KEYS[1], 10.0 * tries, alone=True)
        known.failed(KEYS[2], 10.0 * tries, alone=True)
    assert known.get(KEYS[1]) is None
    assert not known.candidates(4, 990.0, (), free)
    assert [address.key for address in known.candidates(4, 992.0, (), free)] == [KEYS[2]]


def test_who_was_vouched_for_is_never_forgotten() -> None:
    known = book()
    known.pin(at(1), "guest")
    for number in range(50):
        known.failed(KEYS[1], number * 4000.0)
    assert known.pinned("guest") == [at(1)]


def test_every_source_gets_its_turn() -> None:
    known = book()
    known.hear("loud", [at(number) for number in range(64)], Trust.FAR)
    known.hear("quiet", [at(100)], Trust.FAR)
    drawn = [known.candidates(4, 0.0, (), free) for _ in range(200)]
    assert sum(at(100) in four for four in drawn) > 150


def test_what_is_called_for_takes_turns_by_source_and_only_after_the_best() -> None:
    """Those met first, then who lied least; within one source the order stays."""
    known = book()
    known.hear("liar", [at(number, f"9.9.9.{number}:1") for number in range(1, 6)], Trust.FAR)
    known.hear("fool", [at(number, f"9.9.9.{number}:1") for number in range(6, 8)], Trust.FAR)
    known.hear("friend", [at(8, "9.9.9.8:1")], Trust.FAR)
    known.met(at(9, "9.9.9.9:1"), NOW)
    known.met(at(10, "9.9.9.10:1"), NOW)
    known.failed(KEYS[6], 0)
    looked = []

    def ranked() -> Iterator[int]:
        for number in range(1, 11):
            looked.append(number)
            yield number

    turns = known.in_turn(ranked(), KEYS.__getitem__)
    assert next(turns) == 1 and looked == [1]
    known.failed(KEYS[1], 0)
    known.failed(KEYS[1], 0)
    assert list(turns) == [9, 8, 6, 2, 10, 7, 3, 4, 5]
    assert list(known.in_turn(iter([]), KEYS.__getitem__)) == []


def test_full_neighbourhoods_and_connected_ones_are_left_out() -> None:
    known = book()
    known.hear("a", [at(1, "8.8.8.8:1", "9.9.9.9:1"), at(2, "8.8.8.8:2"), at(3)], Trust.FAR)
    found = known.candidates(9, 0.0, {KEYS[3]}, lambda way: "full" if way.startswith("8.8.8.") else None)
    assert found == [at(1, "9.9.9.9:1")]


def test_only_who_was_met_lately_is_told_and_to_nobody_itself() -> None:
    known = book()
    known.hear("a", [at(1)], Trust.FAR)
    known.met(at(2), NOW)
    known.met(at(3, "192.168.0.7:1", "8.8.8.8:1"), NOW)
    known.met(at(4), UnixMs(NOW - TOLD_MS - 1))
    known.met(at(5), NOW)
    known.failed(KEYS[5], 0.0)
    told = known.tell(9, KEYS[2], NOW, Trust.FAR)
    assert told == (PeerSeen(KEYS[3], ("8.8.8.8:1",)),)
    assert set(known.tell(9, KEYS[3], NOW, Trust.NEAR)) == {PeerSeen(KEYS[2], at(2).direct)}


@pytest.mark.parametrize(
    ("way", "far", "near"),
    [
        ("8.8.8.8:53", True, True),
        ("[2001:4860:4860::8888]:53", True, True),
        ("192.168.1.1:4433", False, True),
        ("127.0.0.1:4433", False, True),
        ("node.example:4433", False, False),
        ("224.0.0.251:5353", False, False),
        ("0.0.0.0:4433", False, False),
        ("255.255.255.255:4433", False, False),
        ("nonsense", False, False),
        ("8.8.8.8:0", False, False),
    ],
)
def test_what_a_stranger_may_have_called(way: str, far: bool, near: bool) -> None:
    assert believed([way], Trust.FAR) == ((way,) if far else ())
    assert believed([way], Trust.NEAR) == ((way,) if near else ())


def test_near_is_this_machine_and_private_networks() -> None:
    assert Trust.of("127.0.0.1:1") is Trust.of("10.0.0.3:1") is Trust.NEAR
    assert Trust.of("8.8.8.8:1") is Trust.of(None) is Trust.FAR


def test_entries_that_are_no_addresses_are_passed_over() -> None:
    good = PeerSeen(KEYS[1], ("8.8.8.8:1",))
    assert seen([PeerSeen(bytes(32), ("8.8.8.8:1",)), PeerSeen(KEYS[2], ("x",)), good]) == [at(1, "8.8.8.8:1")]


def test_a_restart_knows_what_was_known() -> None:
    known = book()
    known.met(at(1), NOW)
    known.pin(at(2), "inviter")
    known.hear("a", [at(3)], Trust.FAR)
    again = book()
    again.restore(known.to_bytes())
    assert [again.get(KEYS[number]) for number in (1, 2, 3)] == [known.get(KEYS[number]) for number in (1, 2, 3)]
    assert DAY_MS < TOLD_MS


def test_others_look_at_it_and_change_it_while_it_is_read_and_written() -> None:
    known, written = book(), book()

    class Slow(PeerAddress):
        def __str__(self) -> str:
            known.met(at(3), NOW)
            return super().__str__()

    known.met(Slow(KEYS[1], at(1).direct), NOW)
    known.met(at(2), NOW)
    assert known.to_bytes() and known.get(KEYS[3])
    written.met(at(4), NOW)
    look = iter(known)
    next(look)
    known.restore(written.to_bytes())
    assert list(look) == [KEYS[2], KEYS[3]] and known.get(KEYS[4])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"peers": 3}', b'{"peers": [{}]}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_none_is_an_empty_book(data: bytes) -> None:
    known = book()
    known.restore(data)
    assert len(known) == 0
