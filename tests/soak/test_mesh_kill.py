"""``kill -9`` of seller or buyer at random points of what they sell each other: both books say the same, once."""

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.processes import NodeProcess
from tests.rows.mesh import address_of, eventually, network, seed, worker
from tests.rows.test_failover import MODEL, WINDOW_TRM, Heard, free_port
from tests.rows.test_saf import NO_LIMITS
from tirami.api.schemas import PeersQuery, PolicyRequest, SafetyQuery, TradeEntry, TradesQuery
from tirami.core.errors import TiramiError
from tirami.proto import amount_due
from tirami.sdk import Tirami

KILLS = 200
"""Some seven seconds each, half of them the start of a process."""
PAIRS = 2
"""Side by side, one a core: all kills within a quarter of an hour on an idle machine of two."""
LONGEST_S = 1.5
"""From the beginning of a load to the kill: an answer or two."""
ALONE = {"TIRAMI_PRICING_FOLLOW_LOAD": "false", "TIRAMI_INFER_THREADS": "1"}
"""Two threads of an engine that wait for each other on a busy machine take ten times as long."""
RICH = {"welcome_limit": 10**7, "unwitnessed_daily_limit": 10**7}


@dataclass
class Shops:
    """Seller and buyer, each at the same address in every life, and what clients of the buyer saw."""

    seller: NodeProcess
    buyer: NodeProcess
    told: dict[str, Heard] = field(default_factory=dict)
    """Answers whose end came with a trade, by its id."""
    booked: dict[str, TradeEntry] = field(default_factory=dict)
    broken: int = 0
    """Answers that broke off after their first token."""
    lost: list[int] = field(default_factory=list)
    """TRM that answers were worth, as far as they came, beyond what was paid for them; by broken answer."""
    most: int = 0
    """TRM of the costliest prompt."""

    _clients: dict[tuple[Path, str], Tirami] = field(default_factory=dict)
    """By home and address, which is another one in every life and may have been the other node's."""

    def admin(self, node: NodeProcess) -> Tirami:
        who = node.data_dir, node.url
        if who not in self._clients:
            self._clients[who] = node.admin()
        return self._clients[who]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    # --- one round ---------------------------------------------------------------------------------------------

    def killed(self, rng: random.Random) -> None:
        """One of the two dies under load, at any moment, and comes back; then both say the same of all answers."""
        while not self.buys("Say hello.", 6):
            self.settled_later()
        victim = rng.choice((self.seller, self.buyer))
        with ThreadPoolExecutor(1) as client:
            loading = client.submit(self.load, random.Random(rng.random()))
            time.sleep(rng.uniform(0, LONGEST_S))
            victim.kill()
            victim.start()
            heard = loading.result(60)
        self.meet()
        self.check(heard, victim)

    def buys(self, prompt: str, most: int) -> bool:
        """A whole answer; whether it came to its end with a trade."""
        heard = self.heard(prompt, most)
        return bool(heard.bill.get("trade_id"))

    def heard(self, prompt: str, most: int) -> Heard:
        heard = Heard()
        try:
            heard.hear(self.admin(self.buyer), prompt, most)
        except (httpx2.TransportError, TiramiError, json.JSONDecodeError):
            heard.bill = {}
        if bill := heard.bill:
            self.most = max(self.most, amount_due(bill["price_in_utrm"], 0, bill["prompt_tokens"], 1))
        if trade := bill.get("trade_id"):
            self.told[trade] = heard
        return heard

    def load(self, rng: random.Random) -> Heard:
        """Ask one thing after another until an answer breaks off, or is owed; what was heard of that one."""
        while True:
            heard = self.heard(f"Tell me story {rng.randrange(100, 1000)}.", rng.randint(4, 120))
            if not heard.bill.get("trade_id"):
                return heard

    # --- what must hold ------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Until the buyer sees what there is to buy, nothing is promised any more and both books are equal."""
        seller, buyer = self.admin(self.seller), self.admin(self.buyer)

        def quiet(admin: Tirami) -> bool:
            held = sum(account.reserved for account in admin.accounts().accounts)
            own = SafetyQuery(node=admin.status().node_id)
            sessions = admin.safety().open_sessions + admin.safety(own).open_sessions
            return not (held or sessions or admin.mesh().selling.running)

        eventually(lambda: any(peer.why_not is None for peer in buyer.peers(PeersQuery()).peers))
        eventually(lambda: quiet(seller) and quiet(buyer))
        eventually(lambda: seller.log_state().state_hash == buyer.log_state().state_hash)
        assert seller.log_state().sum_of_accounts == buyer.log_state().sum_of_accounts == 0

    def settled_later(self) -> None:
        """An answer between two deaths was cut off: both have called each other, and one of two connections ended."""
        self.meet()
        trades = booked(self.admin(self.seller))
        assert len([id for id in trades if id not in self.told and id not in self.booked]) <= 1
        self.booked = trades

    def check(self, heard: Heard, victim: NodeProcess) -> None:
        """Every answer with a bill is one trade, the one that broke off at most one, at most for what arrived."""
        trades = booked(self.admin(self.seller))
        untold = [trade for id, trade in trades.items() if id not in self.told and id not in self.booked]
        assert all(trades[id].trm_amount == each.bill["trm_cost"] for id, each in self.told.items())
        assert all(trades[id] == trade for id, trade in self.booked.items()), "what was booked stays"
        assert len(untold) <= (1 if heard.pieces or victim is self.buyer else 0)
        self.booked = trades
        self.broken += bool(heard.pieces)
        if bill := heard.bill:
            paid = sum(trade.trm_amount for trade in untold)
            prices = bill["price_in_utrm"], bill["price_out_utrm"], bill["prompt_tokens"]
            worth = amount_due(*prices, bill["completion_tokens"])
            assert paid <= bill["owed_trm"] <= worth, "never more than was signed for, never for what did not arrive"
            self.lost.append(worth - paid)

    def unpaid(self) -> list[int]:
        """TRM that the seller says its sessions went without, of those that it lived to see the end of."""
        lines = [json.loads(line) for line in self.seller.log().splitlines() if line.startswith("{")]
        return [line["unpaid"] for line in lines if line.get("event") == "sold"]


def booked(node: Tirami) -> dict[str, TradeEntry]:
    """All trades of a node's book, by id; no session has two."""
    found: dict[str, TradeEntry] = {}
    cursor = None
    while True:
        page = node.trades(TradesQuery(limit=100, scope="network", cursor=cursor))
        found |= {trade.id: trade for trade in page.trades}
        if (cursor := page.next_cursor) is None:
            break
    assert all(trade.applied for trade in found.values())
    assert len({trade.session for trade in found.values()}) == len(found), "one bill a session"
    return found


@contextmanager
def shops(directory: Path) -> Iterator[Shops]:
    """Both call each other as soon as they are back."""
    file, keys = network(directory, "seller", "buyer", **RICH)
    ports = {name: free_port() for name in keys}
    bind = {name: ("--p2p-bind", f"127.0.0.1:{port}") for name, port in ports.items()}
    buyer_at = f"{keys['buyer']}@127.0.0.1:{ports['buyer']}"
    options = ("-m", MODEL, "--bootstrap", buyer_at, *bind["seller"])
    with (
        seed(directory / "seller", file, *options, env=ALONE) as seller,
        worker(directory / "buyer", file, address_of(seller), options=bind["buyer"]) as buyer,
    ):
        with buyer.admin() as admin:
            admin.set_policy(PolicyRequest.model_validate({"node_id": keys["buyer"], **NO_LIMITS}))
        with closing(Shops(seller, buyer)) as made:
            yield made


def life(directory: Path, kills: int, seed: int) -> Shops:
    """A seller and a buyer with so many deaths in it; what was seen."""
    rng = random.Random(seed)
    directory.mkdir()
    with shops(directory) as found:
        found.meet()
        for _ in range(kills):
            found.killed(rng)
        assert found.buys("Say hello.", 6), "and the next answer is bought as ever"
        found.meet()
        books = [booked(found.admin(node)).keys() for node in (found.seller, found.buyer)]
        assert books[0] == books[1] >= found.told.keys()
    return found


@pytest.mark.soak
@pytest.mark.model
@pytest.mark.row("L1-09")  # seller or buyer killed with -9 at 200 random points, over QUIC
@pytest.mark.timeout(1800)
def test_seller_or_buyer_is_killed_at_two_hundred_points(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(PAIRS) as side_by_side:
        lives = [side_by_side.submit(life, tmp_path / str(n), KILLS // PAIRS, n) for n in range(PAIRS)]
        seen = [each.result() for each in lives]
    told, broken = sum(len(each.told) for each in seen), sum(each.broken for each in seen)
    lost = [each for found in seen for each in found.lost]
    unpaid = [each for found in seen for each in found.unpaid()]
    bound = WINDOW_TRM + max(found.most for found in seen)
    figure = (
        f"{PAIRS} sellers and their buyers, QUIC on loopback, the small model: {KILLS} kills in"
        f" {time.monotonic() - began:.0f} s, {told} answers told with their trade, {broken} broken off; lost with one"
        f" at most {max(lost)} TRM where the seller died, {max(unpaid)} TRM where the buyer did; bound {bound} TRM"
    )
    print(figure)
    record_property("figure", figure)
    assert all(0 <= each <= bound for each in (*lost, *unpaid)), "B11"
