"""Sellers that know nobody, rogues that buy of all of them, and a witness: processes of one network over QUIC."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rows.mesh import eventually
from tests.rows.rogues import MODEL, knows
from tirami.api.schemas import PeersQuery
from tirami.cli.demo.pair import Member
from tirami.cli.demo.process import clean_environment

STARTING = 4
"""Nodes that start at a time: each seller has its model to measure."""
MEETING_S = 300


@dataclass
class Fair:
    sellers: list[Member]
    rogues: list[Member]
    """They know all sellers, and tell none of them of what they buy of another."""
    witness: Member
    """Honest; knows all sellers, and starts when it is to make them meet."""

    @property
    def honest(self) -> tuple[Member, ...]:
        return (*self.sellers, self.witness)

    def earned(self) -> list[int]:
        return [seller.balance for seller in self.sellers]

    def convicted(self, member: Member) -> set[str]:
        return {fraud.guilty for fraud in member.client.frauds().frauds}

    def meet(self) -> None:
        self.witness.start()
        eventually(lambda: connected(self.witness) == len(self.sellers), MEETING_S)

    def agree(self) -> None:
        """All honest books are equal and add up to nothing."""
        eventually(lambda: len({member.book.state_hash for member in self.honest}) == 1, MEETING_S)
        assert all(member.book.sum_of_accounts == 0 for member in self.honest)


def connected(member: Member) -> int:
    return sum(peer.connected for peer in member.client.peers(PeersQuery()).peers)


@contextmanager
def fair(scratch: Path, sellers: int, rogues: int, line: int, daily: int) -> Iterator[Fair]:
    """``line``: TRM of each buyer; ``daily``: U of the network, TRM."""
    file = scratch / "network.json"
    environment = clean_environment(scratch)
    shared = {
        "NETWORK_FILE": str(file),
        "PRICING_FOLLOW_LOAD": "false",
        "API_RATE_PER_SECOND": "9999",
        "MESH_PEERS": "0",  # who has not been named is not met
    }
    selling = {**shared, "INFER_MODEL": MODEL, "INFER_THREADS": "1"}
    selling_there = [Member(scratch / f"seller{number}", selling, environment) for number in range(sellers)]

    def buyer(name: str, **how: Any) -> Member:
        settings = {
            **shared,
            "INFER_MODELS_DIR": str(scratch / name / "models"),
            "MESH_CONSUME": "any",
            "MESH_BOOTSTRAP": " ".join(seller.address for seller in selling_there),
        }
        return Member(scratch / name, settings, environment, options=("--no-model",), **how)

    program = ("tirami.testing.rogue", "apart")
    buying = [buyer(f"rogue{number}", program=program) for number in range(rogues)]
    made = Fair(selling_there, buying, buyer("witness"))
    keys = [member.key.hex() for member in (*buying, made.witness)]
    parameters = {"witnesses": 1, "quorum": 1, "welcome_limit": line, "unwitnessed_daily_limit": daily}
    document = {"format": "tirami/1/network", "id": "fair", "parameters": parameters, "witnesses": keys[-1:]}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys]}))
    with ThreadPoolExecutor(STARTING) as threads:
        try:
            list(threads.map(Member.start, (*selling_there, *buying)))
            eventually(lambda: all(knows(rogue, one) for rogue in buying for one in selling_there), MEETING_S)
            yield made
        finally:
            list(threads.map(Member.stop, (*selling_there, *buying, made.witness)))
