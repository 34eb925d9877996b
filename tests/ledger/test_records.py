"""Records where they stand: by kind, by time of booking; and who gives and gets."""

from itertools import pairwise
from pathlib import Path

from tests.ledger.test_statements import trading
from tests.market.conftest import House, opened_house
from tirami.ledger import StoredRecord, grant_line
from tirami.proto import Grant, Trade, Transfer, parties
from tirami.testing import ManualClock

KINDS = {"trade": Trade, "transfer": Transfer, "grant": Grant}


def check(house: House) -> list[StoredRecord]:
    state = house.ledger.state
    stored = list(state.newest_first(None, None))
    assert [record.leaf_index for record in stored] == list(range(state.log.size))[::-1]
    for kind, body in KINDS.items():
        wanted = [record for record in stored if isinstance(record.body, body)]
        assert wanted and list(state.newest_of_kind(kind, None)) == wanted
        before = wanted[0].leaf_index
        assert list(state.newest_of_kind(kind, before)) == wanted[1:]
        assert list(state.newest_of_kind(kind, before + 1)) == wanted
    assert list(state.newest_of_kind("other", None)) == []
    times = [record.at_ms for record in stored[::-1]]
    assert all(earlier <= later for earlier, later in pairwise(times))
    for at in {0, *times, *(time + 1 for time in times), *(time - 1 for time in times)}:
        assert state.first_booked_at(at) == sum(time < at for time in times)
    for record in stored:
        for party in parties(record.body):
            assert list(state.newest_first(party, record.leaf_index + 1)).count(record) == 1
    return stored


async def test_the_indexes_equal_a_walk_through_the_log_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened_house(tmp_path, clock=clock) as house:
        assert house.ledger.state.first_booked_at(2**60) == house.ledger.state.log.size
        await trading(house, clock, 7)
        own = grant_line(house.ledger, house.node, house.node.public_key)
        assert own is not None
        await own
        stored = check(house)
        given = {type(record.body): parties(record.body) for record in stored[1:]}
        node, agent = house.node.public_key, house.agent.key
        assert given[Trade] == (agent, node) and given[Grant] == (node, agent)
        assert given[Transfer][0] == node
    async with opened_house(tmp_path, clock=clock, node=house.node) as again:
        assert check(again) == stored
