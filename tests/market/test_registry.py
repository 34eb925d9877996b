"""Who is known as a provider: what is no news, what ends, and that nobody's flood displaces anybody else."""

import time
from dataclasses import dataclass, field
from itertools import count

import pytest

from tirami.core.clock import APART_MS
from tirami.core.units import MICRO, Ppm, UnixMs
from tirami.market import PeerRegistry
from tirami.market.registry import MAX_BROUGHT, MAX_OFFERINGS, REMEMBERED
from tirami.market.shares import Shares
from tirami.proto import Offering, Signal

NOW = UnixMs(1_800_000_000_000)
FLOODER = b"flooder".ljust(32)
NEIGHBOUR = b"neighbour".ljust(32)


def signal(key: bytes, models: int = 1, at_ms: int = NOW, lifetime_ms: int = 90_000) -> Signal:
    offerings = tuple(
        Offering(f"m-{number}", bytes(32), bytes(32), 2_048, 10**9, 10**9, 10, 100, "none", 250_000, 1_000_000)
        for number in range(models)
    )
    return Signal("testnet", key, MICRO, 60_000, 4, 0, (), offerings, lifetime_ms, at_ms)


@dataclass
class Told:
    """A registry and who tells it what."""

    registry: PeerRegistry = field(default_factory=lambda: PeerRegistry(lambda _: Ppm(500_000)))
    numbers: "count[int]" = field(default_factory=count)

    def made_up(self, how_many: int, models: int, by: bytes = FLOODER) -> list[bytes]:
        keys = [b"made-up" + next(self.numbers).to_bytes(25) for _ in range(how_many)]
        for key in keys:
            self.registry.ingest(signal(key, models), NOW, by=by)
        return keys

    def of(self, keys: list[bytes]) -> int:
        return sum(self.registry.get(key) is not None for key in keys)

    @property
    def offerings(self) -> int:
        return sum(len(peer.signal.models) for peer in self.registry)


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_flood_from_one_peer_displaces_nobody_but_itself(told: Told) -> None:
    """300 signals of 60 models each were enough to empty the table."""
    honest = told.made_up(500, 2, by=NEIGHBOUR)
    flood = told.made_up(400, 60)
    assert told.of(honest) == 500
    assert sum(60 for key in flood if told.registry.get(key)) <= MAX_BROUGHT
    assert told.registry.get(flood[-1]) is not None, "within a share the least recently heard of goes first"


def test_who_is_connected_is_displaced_by_nobodys_word_of_others(told: Told) -> None:
    """Not in the table's worst hour, when floods come from everywhere, and not in the share of who told of it first."""
    (first,) = told.made_up(1, 1)  # told by the flooder, and connected later
    told.registry.connected(first)
    told.registry.connected(NEIGHBOUR)
    told.registry.ingest(signal(NEIGHBOUR, 3), NOW, by=FLOODER)
    for number in range(40):
        told.made_up(40, 60, by=number.to_bytes(32))
    assert told.offerings <= MAX_OFFERINGS
    assert told.of([first, NEIGHBOUR]) == 2


def test_where_all_are_too_many_the_largest_share_loses_first(told: Told) -> None:
    honest = told.made_up(100, 1, by=NEIGHBOUR)
    for number in range(12):
        told.made_up(33, 60, by=number.to_bytes(32))
    assert MAX_OFFERINGS - 60 < told.offerings <= MAX_OFFERINGS
    assert told.of(honest) == 100


def test_signals_without_models_are_bounded_by_their_number(told: Told) -> None:
    keys = told.made_up(MAX_BROUGHT + 10, 0)
    assert len(told.registry) == MAX_BROUGHT
    assert told.registry.get(keys[9]) is None and told.registry.get(keys[10]) is not None


def test_connected_peers_alone_are_bounded_too_and_those_with_few_models_stay(told: Told) -> None:
    few, many = [number.to_bytes(32) for number in range(50)], [number.to_bytes(32) for number in range(50, 350)]
    for keys, models in ((few, 1), (many, 64)):
        for key in keys:
            told.registry.connected(key)
            told.registry.ingest(signal(key, models), NOW, by=key)
    assert told.offerings <= MAX_OFFERINGS
    assert told.of(few) == 50


def test_at_capacity_the_least_recently_heard_of_goes() -> None:
    registry = PeerRegistry(lambda _: Ppm(500_000), capacity=3)
    keys = [number.to_bytes(32) for number in range(4)]
    for key in keys[:3]:
        assert registry.ingest(signal(key), NOW, by=NEIGHBOUR)
    registry.ingest(signal(keys[0], at_ms=NOW + 1), NOW, by=NEIGHBOUR)
    registry.ingest(signal(keys[3]), NOW, by=NEIGHBOUR)
    assert [registry.get(key) is not None for key in keys] == [True, False, True, True]
    assert [bytes(one.candidate.provider) for one in registry.ranked(None, 1, NOW)] == [keys[0], *keys[2:]]


def test_nobody_takes_another_into_its_own_share_to_displace_it_there(told: Told) -> None:
    (victim,) = told.made_up(1, 1, by=NEIGHBOUR)
    told.registry.ingest(signal(victim, at_ms=NOW + 1), NOW, by=FLOODER)
    told.made_up(400, 60)
    assert told.registry.get(victim) is not None


def test_who_was_let_go_stays_known_in_a_share_of_its_own_and_counts_as_connected_no_more(told: Told) -> None:
    told.registry.connected(NEIGHBOUR)
    told.registry.ingest(signal(NEIGHBOUR, 64), NOW, by=FLOODER)
    told.registry.released(NEIGHBOUR)
    told.made_up(400, 60)
    assert told.registry.get(NEIGHBOUR) is not None, "a flood of another displaces it as little as anybody"
    told.registry.forget(NEIGHBOUR)
    told.registry.released(FLOODER)
    told.registry.prune(NOW + 90_001)
    assert told.registry._shares._size == 0 and not told.registry._shares._connected


def test_what_is_gone_leaves_nothing_behind(told: Told) -> None:
    keys = told.made_up(20, 5)
    told.registry.connected(keys[0])
    for key in keys[:10]:
        told.registry.disconnected(key)
    assert told.registry.prune(NOW + 90_000) == 0
    assert told.registry.prune(NOW + 90_001) == 10
    assert (len(told.registry), told.offerings) == (0, 0)
    assert told.registry._shares._size == 0
    assert not told.registry._shares._shares and not told.registry._ranking._lists


@pytest.mark.parametrize(
    ("at_ms", "news"),
    [
        (NOW - 90_000 - APART_MS, True),
        (NOW - 90_001 - APART_MS, False),
        (NOW + APART_MS, True),
        (NOW + APART_MS + 1, False),
    ],
    ids=["an hour behind", "ended whatever the clock", "an hour ahead", "from the future"],
)
def test_what_has_ended_or_is_not_yet_is_no_news(told: Told, at_ms: int, news: bool) -> None:
    assert told.registry.ingest(signal(NEIGHBOUR, at_ms=at_ms), NOW) is news
    assert (told.registry.get(NEIGHBOUR) is not None) is news


def test_what_is_not_newer_is_no_news(told: Told) -> None:
    assert told.registry.ingest(signal(NEIGHBOUR, 2), NOW)
    for at_ms in (NOW, NOW - 1):
        assert not told.registry.ingest(signal(NEIGHBOUR, 5, at_ms=at_ms), NOW)
    assert told.offerings == 2


def test_what_it_lasts_is_counted_from_when_it_came_and_how_old_it_was_then(told: Told) -> None:
    """Whatever the clock of its node says."""
    ahead = signal(NEIGHBOUR, at_ms=NOW + 180_000)
    assert told.registry.ingest(ahead, NOW, by=FLOODER, age_ms=60_000)
    known = told.registry.get(NEIGHBOUR)
    assert known is not None and known.fresh(NOW + 30_000) and not known.fresh(NOW + 30_001)
    ended = signal(FLOODER, at_ms=NOW + 180_000)
    assert not told.registry.ingest(ended, NOW, by=NEIGHBOUR, age_ms=90_000)


def test_what_was_forgotten_comes_back_by_its_own_nodes_word_only(told: Told) -> None:
    said, later = signal(NEIGHBOUR, at_ms=NOW), signal(NEIGHBOUR, at_ms=NOW + 1)
    assert told.registry.ingest(said, NOW)
    assert told.registry.prune(NOW + 90_001) == 1
    then = UnixMs(NOW + 90_002)
    assert not told.registry.ingest(said, then, by=FLOODER), "an old signal is no news again"
    assert not told.registry.ingest(signal(NEIGHBOUR, at_ms=NOW - 1), then), "nor an older one, by whomever"
    assert told.registry.ingest(said, then), "it is connected again, and has nothing new to say"
    told.registry.forget(NEIGHBOUR)
    assert told.registry.ingest(later, then, by=FLOODER)


def test_the_past_is_bounded(told: Told) -> None:
    registry = told.registry
    for number in range(REMEMBERED + 10):
        key = number.to_bytes(32)
        registry.ingest(signal(key), NOW)
        registry.forget(key)
    assert len(registry._past) == REMEMBERED


def test_a_full_table_takes_signals_in_as_fast_as_an_empty_one() -> None:
    shares, took = Shares(10_000, 16_000, 2_000), []
    for number in range(30_000):
        began = time.perf_counter()
        by = (number % 20).to_bytes(32)
        shares.put(number.to_bytes(32), 1, by)
        for key in shares.excess(by):
            shares.drop(key)
        took.append(time.perf_counter() - began)
    assert len(shares._owners) == 10_000
    assert sorted(took)[len(took) // 2] < 0.000_1
