"""The mesh from outside: a provider and consumers as real processes, what each of them shows, what was paid."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes import NodeProcess
from tests.rows.mesh import LOOPBACK, address_of, eventually, network, seed, worker
from tests.rows.test_saf import chat
from tirami.api.schemas import (
    BalanceQuery,
    ChatCompletionRequest,
    PeersQuery,
    ProvidersQuery,
    RouteQuery,
    SafetyQuery,
    ScheduleRequest,
)
from tirami.core.errors import ProviderNotFound
from tirami.core.keys import PublicKey, Signature, verify
from tirami.proto import Signal, decode
from tirami.sdk import Tirami
from tirami.verify import verify_receipt

MODEL = "smollm2:135m"
TIRAMI = [sys.executable, "-m", "tirami.cli"]
LONG = "Say what these have in common: " + ", ".join(["a dog", "the sea", "an old book", "rain"] * 16) + "."
ASKED = 5
"""Times each way; the best counts, so that what else this machine does is not the hop's doing."""


@dataclass(frozen=True)
class Pair:
    seller: NodeProcess
    buyer: NodeProcess
    keys: dict[str, str]
    file: Path
    address: str


def sees_offer(node: NodeProcess) -> bool:
    with node.client() as client:
        return any(peer.why_not is None for peer in client.peers(PeersQuery()).peers)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A seed with the small model and a worker that knows its key and address."""
    directory = tmp_path_factory.mktemp("mesh")
    file, keys = network(directory, "seller", "buyer", "third")
    with seed(directory / "seller", file, "--model", MODEL) as seller:
        address = address_of(seller)
        with worker(directory / "buyer", file, address) as buyer:
            eventually(lambda: sees_offer(buyer))
            yield Pair(seller, buyer, keys, file, address)


def run(node: NodeProcess, *arguments: str) -> str:
    done = subprocess.run(
        [*TIRAMI, *arguments, "--data-dir", str(node.data_dir)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.row("L0-12")
@pytest.mark.row("GEN-02")  # bought of a peer
@pytest.mark.model
def test_a_request_without_a_model_is_answered_by_a_peer_as_it_is_made_and_paid_at_its_real_cost(pair: Pair) -> None:
    arrived: list[float] = []
    bill: dict[str, object] = {}
    text = ""
    with pair.buyer.client() as client:
        body = chat("Tell me a long story about a dog.", 48).model_dump(exclude_unset=True)
        body |= {"model": MODEL, "temperature": 0, "stream_options": {"include_usage": True}}
        for chunk in client.stream_chat(ChatCompletionRequest.model_validate(body)):
            for choice in chunk["choices"]:
                if piece := choice["delta"].get("content"):
                    arrived.append(time.monotonic())
                    text += piece
            if chunk.get("usage"):
                bill = {**chunk["usage"], **chunk["x_tirami"]}
    assert text and len(arrived) > 8
    assert len({round(moment, 2) for moment in arrived}) > 4, "tokens come as they are made, not all at the end"
    assert (bill["provider"], bill["payer"]) == (pair.keys["seller"], pair.keys["buyer"])
    assert bill["prompt_tokens"] > 0 and bill["completion_tokens"] > 0 and bill["owed_trm"] == 0  # type: ignore[operator]
    price_in, price_out = int(str(bill["price_in_utrm"])), int(str(bill["price_out_utrm"]))
    due = price_in * int(str(bill["prompt_tokens"])) + price_out * int(str(bill["completion_tokens"]))
    assert bill["trm_cost"] == max(1, -(-due // 1_000_000))
    with pair.seller.admin() as seller, pair.buyer.admin() as buyer:
        trade = str(bill["trade_id"])
        eventually(lambda: trade in {entry.id for entry in seller.trades().trades})
        for client in (seller, buyer):
            entry = client.trade(trade)
            assert (entry.trm_amount, entry.consumer, entry.provider) == (
                bill["trm_cost"],
                pair.keys["buyer"],
                pair.keys["seller"],
            )
            assert entry.signatures is not None and len(entry.signatures) == 2 and entry.applied
        eventually(lambda: seller.log_state().state_hash == buyer.log_state().state_hash)
        earned = seller.earnings()
        assert pair.keys["buyer"] in {row.payer for row in earned.rows}
        assert MODEL in {row.model for row in earned.rows}


def first_token(client: Tirami, number: int) -> float:
    """Seconds until it came; a new number, so that no prompt is at hand already."""
    body = chat(f"{number}. {LONG}", 2).model_dump(exclude_unset=True) | {"model": MODEL, "temperature": 0}
    began, first = time.monotonic(), 0.0
    for chunk in client.stream_chat(ChatCompletionRequest.model_validate(body)):
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            first = first or time.monotonic() - began
    assert first
    return first


@pytest.mark.alone("a ratio of two times")
@pytest.mark.row("L0-12")
@pytest.mark.model
def test_the_first_token_of_a_peer_takes_less_than_1_3_times_as_long_as_asked_directly(
    pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    local, hop = [], []
    with pair.seller.client() as seller, pair.buyer.client() as buyer:
        first_token(buyer, 0)  # fetches the tokenizer
        for number in range(1, ASKED + 1):
            local.append(first_token(seller, 2 * number))
            hop.append(first_token(buyer, 2 * number + 1))
    ratio = min(hop) / min(local)
    figure = f"{MODEL}, QUIC on loopback, best of {ASKED}: {min(hop):.2f} s bought, {min(local):.2f} s asked directly"
    print(figure)
    record_property("figure", f"{figure}, {ratio:.2f} times as long")
    assert ratio < 1.3


SAY = {"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]}
BOUGHT: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("chat/completions", SAY),
    "stream": ("chat/completions", SAY | {"stream": True}),
    "left": ("chat/completions", SAY | {"stream": True, "max_tokens": 200}),
    "completion": ("completions", {"model": MODEL, "prompt": "Say something."}),
    "refused": ("chat/completions", SAY | {"n": 2}),
    "denied": ("chat/completions", SAY | {"max_tokens": 3_900}),
}
"""Paid requests by kind: path and body."""


def buy(node: NodeProcess, how: str, most: int) -> None:
    """One request, whatever it is answered; who leaves does so after so many pieces."""
    path, body = BOUGHT[how]
    with httpx2.stream("POST", f"{node.url}/v1/{path}", json={"max_tokens": most} | body, trust_env=False) as reply:
        for read, _ in enumerate(reply.iter_lines()):
            if how == "left" and read > most:
                return


def signed(node: NodeProcess, pair: Pair) -> tuple[int, dict[str, int]]:
    """What this node's book says the buyer has, and TRM by trade that it paid the seller, each receipt verified."""
    with node.admin() as admin:
        shown = admin.balance(BalanceQuery(node=pair.keys["buyer"], limit=100))
        trades = [trade.id for trade in shown.history if trade.consumer == pair.keys["buyer"]]
        receipts = [verify_receipt(admin.trade_receipt(trade)).trade for trade in trades]
    assert {receipt.provider.hex() for receipt in receipts} <= {pair.keys["seller"]}
    return shown.net_balance, dict(zip(trades, (receipt.amount for receipt in receipts), strict=True))


@pytest.mark.row("GEN-02")  # of a peer, over QUIC
@pytest.mark.model
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(sorted(BOUGHT)), st.integers(1, 24)), min_size=1, max_size=4))
def test_whatever_is_asked_of_a_peer_every_change_of_a_balance_is_a_record_of_both(
    pair: Pair, calls: list[tuple[str, int]]
) -> None:
    for how, most in calls:
        buy(pair.buyer, how, most)
    with pair.seller.admin() as seller, pair.buyer.admin() as buyer:
        bought = SafetyQuery(node=pair.keys["buyer"])
        eventually(lambda: not (buyer.safety(bought).open_sessions or seller.mesh().selling.running))
        eventually(lambda: seller.log_state().state_hash == buyer.log_state().state_hash)
    (net, paid), (shown, earned) = signed(pair.buyer, pair), signed(pair.seller, pair)
    assert net == shown == -sum(paid.values()) and paid == earned


@pytest.mark.row("API-02")
@pytest.mark.model
def test_models_of_peers_are_listed_with_how_many_serve_them(pair: Pair) -> None:
    with pair.buyer.client() as buyer, pair.seller.client() as seller:
        (remote,) = buyer.models().data
        own = next(model for model in seller.models().data if model.id == MODEL)
        assert (remote.id, remote.state, remote.providers) == (MODEL, "remote", 1)
        assert (own.state, own.providers, own.digest) == ("loaded", 0, remote.digest)
        assert buyer.model(MODEL).context_length == own.context_length


@pytest.mark.row("API-13")
@pytest.mark.model
def test_a_peer_is_shown_with_price_capacity_models_signature_age_and_latency(pair: Pair) -> None:
    with pair.buyer.client() as buyer:
        eventually(lambda: buyer.peers(PeersQuery()).peers[0].latency_ms is not None)
        reply = buyer.peers(PeersQuery())
        (peer,) = reply.peers
        assert reply.enabled and (peer.node_id, peer.connected) == (pair.keys["seller"], True)
        assert 0.5 <= peer.price_multiplier <= 3.0 and peer.available_cu == peer.available_trm > 0
        assert (peer.audit_tier, peer.models, peer.why_not) == ("Unverified", [MODEL], None)
        assert peer.latency_ms is not None and 0 < peer.latency_ms < 5_000
        assert peer.age_ms is not None and 0 <= peer.age_ms < 90_000
        assert peer.signal and peer.signature
        key, body, signature = map(bytes.fromhex, (peer.node_id, peer.signal, peer.signature))
        assert verify(PublicKey(key), Signature(signature), Signal.TAG + body)
        signal = decode(Signal, body)
        assert (signal.at_ms, [model.name for model in signal.models]) == (peer.last_seen, [MODEL])
        (judged,) = buyer.peers(PeersQuery(model="other")).peers
        assert judged.why_not == "it does not serve other"
        (link,) = buyer.topology().links
        assert (link.node_id, link.dialled, link.kept) == (pair.keys["seller"], True, True)
    assert "yes" in run(pair.buyer, "peers")
    (other,) = json.loads(run(pair.seller, "peers", "--json"))["peers"]
    assert other["why_not"] == "no prompt leaves this machine (mesh.consume = off)"


@pytest.mark.row("API-09")
@pytest.mark.row("API-11")
@pytest.mark.model
def test_providers_route_and_schedule_agree_over_live_peers(pair: Pair) -> None:
    with pair.buyer.client() as buyer, pair.seller.client() as seller:
        (entry,) = buyer.providers(ProvidersQuery(model=MODEL)).providers
        assert (entry.node_id, entry.local, entry.models) == (pair.keys["seller"], False, [MODEL])
        assert buyer.providers(ProvidersQuery(model="other")).count == 0
        (own,) = seller.providers(ProvidersQuery(model=MODEL)).providers
        assert own.local and own.node_id == pair.keys["seller"], "consumers are no providers"
        for mode in ("cost", "quality", "balanced"):
            route = buyer.route(RouteQuery(model=MODEL, mode=mode, max_tokens=100))
            assert (route.provider, route.model) == (pair.keys["seller"], MODEL)
            ranked = buyer.providers(ProvidersQuery(model=MODEL, mode=mode, max_tokens=100)).providers
            assert ranked[0].node_id == route.provider
        scheduled = buyer.schedule(ScheduleRequest(model_id=MODEL, max_tokens=100))
        balanced = buyer.route(RouteQuery(model=MODEL, max_tokens=100))
        assert (scheduled.provider, scheduled.local) == (balanced.provider, False)
        assert balanced.score == pytest.approx(scheduled.score, rel=0.05), "prices may move between the two"
        with pytest.raises(ProviderNotFound):
            buyer.route(RouteQuery(model=MODEL, max_trm=1, max_tokens=1000))


@pytest.mark.alone("one that died is noticed within 5 s")
@pytest.mark.row("API-11")
@pytest.mark.row("API-09")
@pytest.mark.row("API-02")
@pytest.mark.row("L0-12")
@pytest.mark.model
def test_the_cheaper_of_two_providers_comes_first_until_it_dies(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Both serve one model: at one the price falls with idleness, at the other it stands still."""
    file, keys = network(tmp_path, "cheap", "dear", "buyer")
    falling, still = {"TIRAMI_PRICING_HALF_LIFE_S": "1"}, {"TIRAMI_PRICING_FOLLOW_LOAD": "false"}
    with (
        seed(tmp_path / "cheap", file, "-m", MODEL, env=falling) as cheap,
        seed(tmp_path / "dear", file, "-m", MODEL, env=still) as dear,
        worker(tmp_path / "buyer", file, address_of(cheap), address_of(dear)) as buyer,
        buyer.client() as client,
    ):

        def first(mode: str) -> list[str]:
            found = client.providers(ProvidersQuery.model_validate({"mode": mode})).providers
            return [entry.node_id for entry in found]

        eventually(lambda: first("cost") == [keys["cheap"], keys["dear"]])
        assert first("balanced") == [keys["cheap"], keys["dear"]]
        (model,) = client.models().data
        assert model.providers == 2
        for mode in ("cost", "balanced"):
            assert client.route(RouteQuery.model_validate({"model": MODEL, "mode": mode})).provider == keys["cheap"]
        assert client.schedule(ScheduleRequest(model_id=MODEL, max_tokens=1000)).provider == keys["cheap"]
        body = chat("Say hello.", 8).model_dump(exclude_unset=True) | {"model": MODEL}
        paid = client.chat_completions(ChatCompletionRequest.model_validate(body)).x_tirami
        assert paid.provider == keys["cheap"], "what is forwarded goes where the scheduler says"
        cheap.kill()
        took = eventually(lambda: first("cost") == [keys["dear"]], within=5)
        record_property("figure", f"a provider that was killed is no longer asked after {took:.1f} s")
        assert client.route(RouteQuery(model=MODEL, mode="cost")).provider == keys["dear"]
        assert client.models().data[0].providers == 1
        eventually(lambda: client.topology().missing == [keys["cheap"]])


@pytest.mark.row("CLI-06")
@pytest.mark.model
def test_a_seed_sells_until_it_is_paused_and_remembers_over_a_restart(tmp_path: Path) -> None:
    file, _ = network(tmp_path, "seed", "buyer")
    with seed(tmp_path / "seed", file, "-m", MODEL) as node:
        log = node.log()
        assert "Prompt" in log or "No prompt leaves this machine" in log
        assert "limited to" in log, "the sentence on U"
        shown = json.loads(run(node, "mesh", "status", "--json"))
        assert (shown["enabled"], shown["selling"]["on"], shown["selling"]["models"]) == (True, True, [MODEL])
        with worker(tmp_path / "buyer", file, address_of(node)) as buyer:
            eventually(lambda: sees_offer(buyer))
            run(node, "pause")
            eventually(lambda: not sees_offer(buyer))
            with buyer.client() as client:
                assert client.peers(PeersQuery()).peers[0].why_not == "it sells nothing"
        assert node.stop() == 0
        node.start()
        assert json.loads(run(node, "mesh", "status", "--json"))["selling"]["paused"] is True
        assert "PAUSED" in run(node, "status")
        run(node, "resume")
        assert json.loads(run(node, "mesh", "status", "--json"))["selling"]["on"] is True


@pytest.mark.row("CLI-07")
@pytest.mark.model
def test_a_worker_takes_key_and_address_and_answers_at_the_terminal(pair: Pair) -> None:
    """The conversation, without --daemon; then the grammar of its seeds."""
    settings = ("--data-dir", str(pair.file.parent / "third"), "--network", str(pair.file))
    asked = subprocess.run(
        [*TIRAMI, "worker", "--seed", pair.address, "--port", "0", *LOOPBACK, *settings],
        input="Say hello.\nquit\n",
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "leave this machine to the providers you trust" in asked.stdout
    assert "TRM" in asked.stderr and "tokens in" in asked.stderr
    assert "stopped; everything is saved" in asked.stdout


@pytest.mark.row("CLI-07")
@pytest.mark.parametrize(
    ("way", "relay"), [("", "off"), ("@127.0.0.1:9", "off"), ("@https://relay.example/", "https://relay.example/")]
)
def test_every_form_of_a_seed_is_taken(tmp_path: Path, way: str, relay: str) -> None:
    file, keys = network(tmp_path, "buyer", "away")
    with worker(tmp_path / "buyer", file, keys["away"] + way) as node, node.admin() as admin:
        assert address_of(node).startswith(keys["buyer"])
        report = admin.mesh()
        assert (report.enabled, report.relay, report.selling.on) == (True, relay, False)
        assert (report.buying.consume, report.buying.trusted) == ("trusted", [keys["away"]])
        assert admin.topology().missing == [keys["away"]]
        reply = httpx2.post(
            node.url + "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}]},
            trust_env=False,
        )
        assert reply.status_code == 503


@pytest.mark.row("CLI-07")
def test_what_is_no_seed_is_refused(tmp_path: Path) -> None:
    for seeds in ("nonsense", "ab" * 32 + "@", "@127.0.0.1:1"):
        refused = subprocess.run(
            [*TIRAMI, "worker", "--daemon", "--seed", seeds, "--data-dir", str(tmp_path / "x")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert refused.returncode == 1 and "Error:" in refused.stderr
        assert not (tmp_path / "x").exists()
