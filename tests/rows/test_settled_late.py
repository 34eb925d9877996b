"""A provider that keeps a voucher and settles it when nobody expects it any more: after 11 minutes, after a year.

Processes of one network: a rogue (``tirami.testing.rogue``) that settles nothing as long as it lives, who buys of it,
and a third that only keeps the book. All are stopped, and start again on their directories at a later time
(``tirami.testing.ahead``). What a voucher says is owed for ever (PROTOCOL B7), and is paid once.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rows.mesh import eventually
from tests.rows.rogues import MEETING_S, MODEL, Heard, ask, knows, reserved
from tirami.cli.demo.pair import Member
from tirami.cli.demo.process import clean_environment
from tirami.core.errors import InsufficientFunds

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
MOST = 16
LINE = 600
"""TRM of the buyer's welcome line, for 72 hours."""
HOLDING, HONEST = ("tirami.testing.rogue", "never"), ("tirami.cli", "start")
MINUTES_11, YEAR = 11 * 60 + 1, 366 * 86_400


@dataclass
class Village:
    holder: Member
    buyer: Member
    third: Member

    @property
    def all(self) -> tuple[Member, Member, Member]:
        return self.holder, self.buyer, self.third

    @contextmanager
    def lives(self, ahead_s: int, holder: tuple[str, ...]) -> Iterator[None]:
        """They run so many seconds from now, the holder as this program."""
        with ThreadPoolExecutor(len(self.all)) as threads:
            try:
                for member, program in zip(self.all, (holder, HONEST, HONEST), strict=True):
                    member.program = ("tirami.testing.ahead", str(ahead_s), *program)
                began_ms = 1000 * (time.time() + ahead_s)
                list(threads.map(Member.start, self.all))
                assert all(member.client.status().started_ms >= began_ms - 1 for member in self.all)
                yield
            finally:
                list(threads.map(Member.stop, self.all))

    def bought(self) -> Heard:
        """An answer that is paid for to the end, and not settled."""
        eventually(lambda: knows(self.buyer, self.holder), MEETING_S)
        heard = ask(self.buyer, MOST)
        assert (heard.reason, heard.tokens, heard.cost) == ("length", MOST, heard.worth(MOST))
        assert heard.bill["trade_id"] is None and heard.bill["owed_trm"] == heard.cost
        return heard

    def at_rest(self, paid: int) -> None:
        """All three have the same book, in which so much went from the one to the other, and nothing is held."""
        eventually(lambda: [member.balance for member in (self.holder, self.buyer)] == [paid, -paid], MEETING_S)
        eventually(lambda: len({member.book.state_hash for member in self.all}) == 1, MEETING_S)
        eventually(lambda: all(reserved(member) == 0 for member in self.all))
        for member in self.all:
            assert member.book.sum_of_accounts == 0
            assert member.client.frauds().frauds == []
        assert (self.holder.balance, self.buyer.balance) == (paid, -paid)


def village(scratch: Path) -> Village:
    file = scratch / "network.json"
    environment = clean_environment(scratch)
    shared = {"NETWORK_FILE": str(file), "PRICING_FOLLOW_LOAD": "false", "API_RATE_PER_SECOND": "9999"}
    holder = Member(scratch / "holder", {**shared, "INFER_MODEL": MODEL, "INFER_THREADS": "1"}, environment)

    def modelless(name: str, *known: Member) -> Member:
        settings = {
            **shared,
            "INFER_MODELS_DIR": str(scratch / name / "models"),
            "MESH_CONSUME": "any",
            "MESH_BOOTSTRAP": " ".join(member.address for member in known),
        }
        return Member(scratch / name, settings, environment, options=("--no-model",))

    buyer = modelless("buyer", holder)
    made = Village(holder, buyer, modelless("third", holder, buyer))
    keys = [member.key.hex() for member in made.all]
    parameters = {"witnesses": 1, "quorum": 1, "welcome_limit": LINE}
    document = {"format": "tirami/1/network", "id": "village", "parameters": parameters, "witnesses": keys}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys]}))
    return made


@pytest.mark.row("L1-03")
def test_a_voucher_is_settled_after_11_minutes_and_after_a_year(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    nodes = village(tmp_path)
    with nodes.lives(0, HOLDING):
        first = nodes.bought()
        nodes.at_rest(0)
    with nodes.lives(MINUTES_11, HOLDING):
        nodes.at_rest(first.cost)
        second = nodes.bought()
        nodes.at_rest(first.cost)
    with nodes.lives(YEAR, HONEST):
        nodes.at_rest(first.cost + second.cost)
        eventually(lambda: knows(nodes.buyer, nodes.holder), MEETING_S)
        refused = ask(nodes.buyer, MOST)
        assert isinstance(refused.error, InsufficientFunds), "its line was for three days"
        nodes.at_rest(first.cost + second.cost)
    record_property(
        "figure",
        f"after 11 minutes {first.cost} TRM paid, bound {first.cost}; after a year {second.cost}, bound {second.cost}:"
        " the last vouchers",
    )
