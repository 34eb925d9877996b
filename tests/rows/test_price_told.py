"""A price that moves, as a node one hop away sees it: two processes, QUIC on loopback."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.mesh import address_of, eventually, network, seed, worker
from tests.rows.test_saf import chat
from tirami.api.schemas import ChatCompletionRequest, PeersQuery

MODEL = "smollm2:135m"
SLOTS = 2
QUICK = {"TIRAMI_PRICING_HALF_LIFE_S": "1", "TIRAMI_INFER_SLOTS": str(SLOTS)}
DEAR = 0.8
"""Of the list price; an idle node asks half of it, and one whose places are all taken all of it."""


def talk(node: NodeProcess) -> None:
    with node.client() as client:
        body = chat("Tell me a very long story about the sea.", 400).model_dump(exclude_unset=True) | {"model": MODEL}
        for _ in client.stream_chat(ChatCompletionRequest.model_validate(body)):
            pass


@pytest.mark.alone("a price is told within two seconds")
@pytest.mark.row("L1-14")
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_change_of_price_is_seen_one_hop_away_within_two_seconds(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file, keys = network(tmp_path, "seller", "buyer")
    with (
        seed(tmp_path / "seller", file, "-m", MODEL, env=QUICK) as seller,
        worker(tmp_path / "buyer", file, address_of(seller)) as buyer,
        seller.admin() as own,
        buyer.admin() as other,
        ThreadPoolExecutor(SLOTS) as people,
    ):

        def told() -> float | None:
            peers = {peer.node_id: peer for peer in other.peers(PeersQuery()).peers}
            return peers[keys["seller"]].price_multiplier if keys["seller"] in peers else None

        eventually(lambda: (told() or DEAR) < DEAR - 0.1)
        talking = [people.submit(talk, seller) for _ in range(SLOTS)]
        eventually(lambda: own.pricing().demand_factor >= DEAR, 30)
        rose = time.monotonic()
        eventually(lambda: (told() or 0.0) >= DEAR - 0.02, 30)  # it is told in steps of 2 %
        took = time.monotonic() - rose
        seller.stop()
        for one in talking:
            one.exception()
    figure = f"a price {DEAR} of the list seen one hop away {took:.2f} s after it was so, QUIC on loopback"
    print(figure)
    record_property("figure", figure)
    assert took <= 2
