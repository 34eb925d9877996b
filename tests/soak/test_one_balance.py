"""The same balance before ten providers at once: what that costs them, and that it is over once they meet.

Processes of one network: ten that sell and know nobody, a rogue (``tirami.testing.rogue``) that buys of all of them at
the same moment and tells each that it has spent nothing elsewhere, and an honest node that comes later and knows all.
Until then no provider can see the lie, and U bounds what each may lose to one payer (PROTOCOL B6); after it the rogue
has proven itself guilty to all (B8), and what its means cover stays paid (B2).
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rows.mesh import eventually
from tests.rows.rogues import MODEL, ask, knows
from tirami.api.schemas import BalanceQuery, PeersQuery
from tirami.cli.demo.pair import Member
from tirami.cli.demo.process import clean_environment
from tirami.core.errors import EngineFailed

pytestmark = [pytest.mark.soak, pytest.mark.model, pytest.mark.timeout(900)]
PROVIDERS = 10
MOST = 16
LINE, U = 70, 40
"""TRM: the rogue's means, and the most one pair trades in a day: an answer, 27 TRM, and no second one."""
STARTING = 4
"""Nodes that start at a time: each has its model to measure."""
MEETING_S = 300
PROVEN_S = 10


@dataclass
class Fair:
    sellers: list[Member]
    rogue: Member
    witness: Member
    """Knows all sellers, and starts when they have sold."""

    def refused(self, why: str) -> bool:
        """Whether none of so many answers as there are sellers, asked for at once, is begun, and this is the reason."""
        with ThreadPoolExecutor(PROVIDERS) as clients:
            heard = list(clients.map(lambda _: ask(self.rogue, MOST), self.sellers))
        return all(isinstance(one.error, EngineFailed) and why in one.error.message for one in heard)

    def earned(self) -> list[int]:
        return [seller.balance for seller in self.sellers]

    def served(self) -> float:
        """Answers begun and ended, by all sellers."""
        return sum(seller.metric("tirami_sales_total") for seller in self.sellers)

    def convicted(self, member: Member) -> set[str]:
        return {fraud.guilty for fraud in member.client.frauds().frauds}


def connected(member: Member) -> int:
    return sum(peer.connected for peer in member.client.peers(PeersQuery()).peers)


@contextmanager
def fair(scratch: Path) -> Iterator[Fair]:
    file = scratch / "network.json"
    environment = clean_environment(scratch)
    shared = {
        "NETWORK_FILE": str(file),
        "PRICING_FOLLOW_LOAD": "false",
        "API_RATE_PER_SECOND": "9999",
        "MESH_PEERS": "0",  # who has not been named is not met
    }
    selling = {**shared, "INFER_MODEL": MODEL, "INFER_THREADS": "1"}
    sellers = [Member(scratch / f"seller{number}", selling, environment) for number in range(PROVIDERS)]

    def buyer(name: str, **how: tuple[str, ...]) -> Member:
        settings = {
            **shared,
            "INFER_MODELS_DIR": str(scratch / name / "models"),
            "MESH_CONSUME": "any",
            "MESH_BOOTSTRAP": " ".join(seller.address for seller in sellers),
        }
        return Member(scratch / name, settings, environment, options=("--no-model",), **how)

    made = Fair(sellers, buyer("rogue", program=("tirami.testing.rogue", "apart")), buyer("witness"))
    keys = [member.key.hex() for member in (made.rogue, made.witness)]
    parameters = {"witnesses": 1, "quorum": 1, "welcome_limit": LINE, "unwitnessed_daily_limit": U}
    document = {"format": "tirami/1/network", "id": "fair", "parameters": parameters, "witnesses": keys}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys]}))
    with ThreadPoolExecutor(STARTING) as threads:
        try:
            list(threads.map(Member.start, (*sellers, made.rogue)))
            eventually(lambda: all(knows(made.rogue, seller) for seller in sellers), MEETING_S)
            yield made
        finally:
            list(threads.map(Member.stop, (*sellers, made.rogue, made.witness)))


@pytest.mark.row("L1-05")
def test_one_balance_before_ten_providers_at_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with fair(tmp_path) as nodes:
        eventually(lambda: nodes.refused(f"at most {U} TRM a day") and all(nodes.earned()), MEETING_S)
        sold, sales = nodes.earned(), nodes.served()
        assert max(sold) <= U < LINE < sum(sold)
        assert not any(nodes.convicted(seller) for seller in nodes.sellers), "each alone cannot know"

        guilty = nodes.rogue.key.hex()
        nodes.witness.start()
        honest = (*nodes.sellers, nodes.witness)
        eventually(lambda: connected(nodes.witness) == PROVIDERS, MEETING_S)
        proven_s = eventually(lambda: all(nodes.convicted(member) == {guilty} for member in honest), MEETING_S)
        eventually(lambda: len({member.book.state_hash for member in honest}) == 1, MEETING_S)
        honoured = sum(nodes.earned())
        eventually(lambda: nodes.refused("contradicts itself"), MEETING_S)
        assert nodes.served() == sales, "a convict is served no more"

        fine = ask(nodes.witness, MOST)
        assert (fine.reason, fine.cost) == ("length", fine.worth(MOST)), "honest payers are served as ever"
        eventually(lambda: nodes.witness.balance == -fine.cost)
        eventually(lambda: len({member.book.state_hash for member in honest}) == 1, MEETING_S)
        assert sum(nodes.earned()) == honoured + fine.cost, "what its means covered stays paid"
        assert honoured == -nodes.witness.client.balance(BalanceQuery(node=guilty)).net_balance
        assert 0 < honoured <= LINE
        assert all(member.book.sum_of_accounts == 0 for member in honest)
        lost = sum(sold) - honoured
        assert lost <= PROVIDERS * U
        assert proven_s <= PROVEN_S
        figure = f"{lost} TRM lost of {sum(sold)} sold, at most {max(sold)} by one provider, bound {U} each: U"
        print(f"one line of {LINE} TRM before ten at once: {figure}; proven to all {proven_s:.1f} s after they met")
        record_property("figure", f"{figure}; proven to all in {proven_s:.1f} s, bound {PROVEN_S}")
