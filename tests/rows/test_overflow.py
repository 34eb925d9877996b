"""A node whose places are all taken buys answers of its own model, as processes over QUIC: who serves, what is paid."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.mesh import APART, LOOPBACK, address_of, eventually, network, seed
from tests.rows.test_failover import Heard
from tests.rows.test_l0 import engine_of
from tests.rows.test_mesh import sees_offer
from tests.rows.test_saf import chat
from tirami.api.schemas import (
    ChatCompletion,
    KillRequest,
    QuoteRequest,
    RouteQuery,
    SellingRequest,
    TradesQuery,
)
from tirami.core.errors import KillSwitchActive
from tirami.proto import amount_due

MODEL = "smollm2:135m"
PATIENCE_S = 60
ASKED = chat("Say hello.", 8, model=MODEL)


@dataclass
class Street:
    """A seller and a buyer with the same model; the buyer has one place at it."""

    seller: NodeProcess
    buyer: NodeProcess
    keys: dict[str, str]
    clients: ThreadPoolExecutor

    def ask(self, most: int = 8) -> ChatCompletion:
        with self.buyer.client() as client:
            return client.chat_completions(chat("Tell me a long story.", most, model=MODEL))

    def asked(self, most: int = 8) -> "Future[ChatCompletion]":
        return self.clients.submit(self.ask, most)

    def waiting(self) -> int:
        with self.buyer.admin() as admin:
            return admin.status().engine.waiting

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """An answer stands still in the buyer's only place."""
        heard, engine = Heard(), engine_of(self.buyer)
        first = self.clients.submit(heard.listen, self.buyer, "Tell me a long story.", 64)
        eventually(lambda: heard.pieces)
        os.kill(engine, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(engine, signal.SIGCONT)
        first.exception(PATIENCE_S)

    def waits(self) -> None:
        """What is asked while the place is taken is answered here when it is free."""
        with self.crowded():
            asked = self.asked()
            eventually(self.waiting)
        assert served(asked.result(PATIENCE_S)) == self.keys["buyer"]


def served(reply: ChatCompletion) -> str | None:
    return reply.x_tirami.provider


@contextmanager
def street(directory: Path, **environment: str) -> Iterator[Street]:
    file, keys = network(directory, "seller", "buyer")
    alike = {"TIRAMI_PRICING_FOLLOW_LOAD": "false", "TIRAMI_INFER_THREADS": "1"}
    with seed(directory / "seller", file, "-m", MODEL, env=alike) as seller:
        own = {
            "TIRAMI_INFER_SLOTS": "1",
            "TIRAMI_MESH_SELL": "false",
            "TIRAMI_MESH_CONSUME": "any",
            "TIRAMI_MESH_ENABLED": "true",
            "TIRAMI_MESH_BOOTSTRAP": address_of(seller),
        }
        options = ("-m", MODEL, "--network", str(file), *LOOPBACK)
        with (
            NodeProcess(directory / "buyer", *options, env=APART | alike | own | environment) as buyer,
            ThreadPoolExecutor(2) as clients,
        ):
            eventually(lambda: sees_offer(buyer))
            yield Street(seller, buyer, keys, clients)


@pytest.mark.model
@pytest.mark.timeout(300)
def test_what_would_wait_is_bought_of_a_peer_that_serves_the_same_file_and_else_it_waits(tmp_path: Path) -> None:
    with street(tmp_path, TIRAMI_MESH_OVERFLOW="true") as found, found.buyer.admin() as buyer:
        asked = QuoteRequest.model_validate(ASKED.model_dump(exclude_unset=True))
        assert served(found.ask()) == buyer.quote(asked).provider == found.keys["buyer"], "there is a place here"
        with found.crowded():
            eventually(lambda: buyer.quote(asked).provider == found.keys["seller"])
            assert buyer.route(RouteQuery(model=MODEL)).provider == found.keys["seller"]
            reply = found.ask()
            assert found.waiting() == 0
        bill, usage = reply.x_tirami, reply.usage
        assert (bill.provider, bill.payer) == (found.keys["seller"], found.keys["buyer"])
        with found.seller.admin() as seller:
            (price,) = seller.pricing().models
            paid = amount_due(price.price_in_utrm, price.price_out_utrm, usage.prompt_tokens, usage.completion_tokens)
            assert (bill.trm_cost, bill.owed_trm) == (paid, 0)
            eventually(lambda: seller.log_state().state_hash == buyer.log_state().state_hash)
            for book in (seller, buyer):
                (trade,) = [one for one in book.trades(TradesQuery()).trades if one.provider == found.keys["seller"]]
                assert (trade.id, trade.trm_amount, trade.consumer) == (bill.trade_id, paid, found.keys["buyer"])
            seller.set_selling(SellingRequest(paused=True))
            eventually(lambda: not sees_offer(found.buyer))
        found.waits()
        with found.crowded():
            buyer.kill(KillRequest(activate=True, reason="test"))
            with pytest.raises(KillSwitchActive):
                found.ask()


@pytest.mark.model
@pytest.mark.timeout(300)
def test_without_the_setting_what_is_here_is_never_bought(tmp_path: Path) -> None:
    with street(tmp_path) as found:
        found.waits()
        with found.seller.admin() as seller:
            assert seller.mesh().selling.sold == 0
