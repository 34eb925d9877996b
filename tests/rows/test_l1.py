"""The ledger: conserved, signed by both, provable, priced by tier, kept through crashes."""

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import Agent, make_agent
from tests.rows.load import crowd
from tests.rows.test_saf import chat
from tirami.api.schemas import (
    BalanceQuery,
    ChatCompletionRequest,
    ConsistencyQuery,
    HeadEntry,
    PolicyRequest,
    TradesQuery,
    TransferRequest,
)
from tirami.core.errors import InsufficientFunds, TiramiError
from tirami.core.keys import PublicKey, Signature, SigningKey, verify
from tirami.ledger import MerkleLog
from tirami.proto import Acceptance, Head, Trade, decode, parse_receipt
from tirami.testing import EngineProcess, RunningEngine
from tirami.verify import leaf_hash, verify_consistency, verify_inclusion, verify_receipt


@pytest.mark.row("L1-01")
def test_all_accounts_add_up_after_every_operation_and_the_node_checks_it(node: NodeProcess) -> None:
    rng = random.Random(11)
    agents = [make_agent(node) for _ in range(3)]
    with node.admin() as admin:
        identity = admin.status().node_id
        for _ in range(30):
            try:
                match rng.randrange(4):
                    case 0:
                        rng.choice(agents).client.chat_completions(chat("x", rng.randint(1, 60)))
                    case 1:
                        with node.client() as owner:
                            owner.chat_completions(chat("x", rng.randint(1, 60)))
                    case 2:
                        admin.transfer(TransferRequest(to=rng.choice(agents).account, amount=rng.randint(1, 40)))
                    case 3:
                        list(rng.choice(agents).client.stream_chat(chat("[[error=500]]", 5)))
            except TiramiError:
                pass
            state = admin.log_state()
            assert state.sum_of_accounts == admin.network().sum_of_accounts == 0
        keys = [identity, *(agent.account for agent in agents)]
        balances = [admin.balance(BalanceQuery(node=key)) for key in keys]
        assert all(entry.net_balance == entry.contributed - entry.consumed for entry in balances)
        assert all(entry.reserved == 0 for entry in balances)
        network = admin.network()
        assert network.minted == network.burned == 0
        assert time.time() * 1000 - admin.safety().book_checked_ms < 65_000, "added up anew every minute, and at start"
    for agent in agents:
        agent.client.close()


@pytest.mark.row("L1-02")
def test_the_owners_own_use_is_a_local_trade_signed_by_both_that_enters_no_total(node: NodeProcess) -> None:
    with node.admin() as admin, node.client() as owner:
        identity = admin.status().node_id
        before, node_before = admin.network(), admin.balance(BalanceQuery(node=identity))
        paid = owner.chat_completions(chat("mine", 12)).x_tirami
        after, node_after = admin.network(), admin.balance(BalanceQuery(node=identity))
        assert (after.local_trades, after.local_volume_trm) == (before.local_trades + 1, before.local_volume_trm + 12)
        assert (after.total_trades, after.trade_volume, after.total_flop, after.total_nodes) == (
            before.total_trades,
            before.trade_volume,
            before.total_flop,
            before.total_nodes,
        )
        assert node_after.contributed == node_before.contributed, "no counterparty, no income"
        assert paid.trade_id is not None
        trade = verify_receipt(owner.trade_receipt(paid.trade_id)).trade
        assert (trade.scope, trade.provider.hex(), trade.amount) == (1, identity, 12)
        assert trade.payer.hex() == owner.balance().node_id != identity
        with pytest.raises(InsufficientFunds):
            admin.transfer(TransferRequest(to=make_agent(node).account, amount=node_after.net_balance + 1))


@pytest.mark.row("L1-03")
def test_both_keys_sign_the_same_bytes_and_the_payer_signed_its_ceiling_first(node: NodeProcess, agent: Agent) -> None:
    paid = agent.client.chat_completions(chat("sign this", 17)).x_tirami
    assert paid.trade_id is not None
    receipt = parse_receipt(agent.client.trade_receipt(paid.trade_id))
    body, accepted = bytes.fromhex(receipt.body), bytes.fromhex(receipt.acceptance)
    trade, acceptance = decode(Trade, body), decode(Acceptance, accepted)
    for key, signature in zip((trade.payer, trade.provider), receipt.signatures, strict=True):
        assert verify(PublicKey(key), Signature(bytes.fromhex(signature)), Trade.TAG + body)
    signature = Signature(bytes.fromhex(receipt.acceptance_signature))
    assert verify(PublicKey(trade.payer), signature, Acceptance.TAG + accepted)
    assert trade.amount == paid.trm_cost == 17 <= acceptance.ceiling
    assert acceptance.quote_hash == trade.quote_hash
    assert agent.client.trades(TradesQuery(signatures=True)).trades[0].signatures == list(receipt.signatures)


@pytest.mark.row("L1-06")
def test_every_trade_has_a_proof_that_leads_to_a_signed_head(node: NodeProcess, agent: Agent) -> None:
    for _ in range(3):
        agent.client.chat_completions(chat("x", 3))
    heads = []
    for trade in agent.client.trades().trades:
        proof = agent.client.trade_proof(trade.id)
        receipt = parse_receipt(agent.client.trade_receipt(trade.id))
        leaf = leaf_hash(bytes.fromhex(receipt.body) + b"".join(map(bytes.fromhex, receipt.signatures)))
        path = [bytes.fromhex(step) for step in proof.proof]
        verify_inclusion(leaf, proof.leaf_index, proof.head.size, path, bytes.fromhex(proof.head.root))
        check_head(proof.head)
        heads.append(proof.head)
    agent.client.chat_completions(chat("x", 3))
    newest = agent.client.log_head()
    check_head(newest)
    assert newest.size > heads[0].size
    for head in heads:
        grown = agent.client.log_consistency(ConsistencyQuery(first=head.size, second=newest.size)).proof
        steps = [bytes.fromhex(step) for step in grown]
        verify_consistency(head.size, newest.size, bytes.fromhex(head.root), bytes.fromhex(newest.root), steps)


def check_head(head: HeadEntry) -> None:
    body = bytes.fromhex(head.body)
    signed = decode(Head, body)
    assert (signed.size, signed.root.hex(), signed.node.hex()) == (head.size, head.root, head.node)
    assert verify(PublicKey(signed.node), Signature(bytes.fromhex(head.signature)), Head.TAG + body)


@pytest.mark.alone("its times are figures")
@pytest.mark.row("L1-06")
def test_a_million_leaves(record_property: Callable[[str, object], None]) -> None:
    """Append, root and proof at 10⁶ records of 300 bytes, in this process; the times are figures, not assertions."""
    log, leaf = MerkleLog(), bytes(300)
    began = time.perf_counter()
    for _ in range(10**6):
        log.append(leaf)
    append = (time.perf_counter() - began) / 10**6
    began = time.perf_counter()
    root = log.root()
    first_root = time.perf_counter() - began
    began = time.perf_counter()
    assert log.root() == root
    second_root = time.perf_counter() - began
    began = time.perf_counter()
    proof = log.inclusion(654_321, log.size)
    made = time.perf_counter() - began
    verify_inclusion(leaf_hash(leaf), 654_321, log.size, proof, root)
    assert len(proof) <= 20
    roots = f"root {first_root * 1e6:.0f} µs, then {second_root * 1e6:.1f} µs"
    record_property("figure", f"append {append * 1e6:.1f} µs, {roots}, proof {made * 1e3:.2f} ms")


@pytest.mark.row("L1-08")
@pytest.mark.parametrize(
    ("parameters", "active", "trm"),
    [
        (2_999_999_999, 0, 1),
        (3 * 10**9, 0, 3),
        (13_999_999_999, 0, 3),
        (14 * 10**9, 0, 8),
        (69_999_999_999, 0, 8),
        (70 * 10**9, 0, 20),
        (30 * 10**9, 3 * 10**9, 3),
    ],
    ids=["below 3 B", "3 B", "below 14 B", "14 B", "below 70 B", "70 B", "mixture of 30 B, 3 B active"],
)
def test_a_token_costs_what_the_tier_of_the_loaded_model_says(
    engine: RunningEngine, tmp_path: Path, parameters: int, active: int, trm: int
) -> None:
    env = {
        "TIRAMI_INFER_UPSTREAM_PARAMETERS": str(parameters),
        "TIRAMI_INFER_UPSTREAM_ACTIVE_PARAMETERS": str(active),
        "TIRAMI_PRICING_PROMPT_PPM": "0",
        "TIRAMI_PRICING_FOLLOW_LOAD": "false",
    }
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env=env) as node, node.client() as owner:
        assert owner.models().data[0].price_out_utrm == trm * 10**6
        assert owner.chat_completions(chat("x", 10)).x_tirami.trm_cost == 10 * trm
        assert owner.status().market_price.base_trm_per_token == trm


OUTCOMES = {
    "whole answer": "[[tokens=20]] x",
    "empty answer": "[[tokens=0]] x",
    "engine error": "[[error=500]] x",
    "engine refuses": "[[error=400]] x",
    "longer than paid for": "[[tokens=200]] x",
}


@pytest.mark.row("L1-13")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", OUTCOMES.values(), ids=OUTCOMES)
def test_nothing_stays_reserved_whatever_the_outcome(agent: Agent, prompt: str, stream: bool) -> None:
    before = agent.client.balance().effective_balance
    cost = 0
    try:
        if stream:
            last = list(agent.client.stream_chat(chat(prompt, 50)))[-1]
            cost = last["x_tirami"]["trm_cost"]
        else:
            cost = agent.client.chat_completions(chat(prompt, 50)).x_tirami.trm_cost
    except TiramiError:
        pass
    after = agent.client.balance()
    assert (after.reserved, after.effective_balance) == (0, before - cost)
    assert agent.client.safety().open_sessions == 0


@pytest.mark.row("L1-13")
def test_nothing_stays_reserved_after_refusal_stall_and_death_of_the_engine(tmp_path: Path) -> None:
    with EngineProcess() as engine, NodeProcess(tmp_path / "home", "--upstream", engine.url) as node:
        agent = make_agent(node)
        with node.admin() as admin:
            admin.set_policy(PolicyRequest(node_id=agent.account, max_cu_per_request=100))
        with pytest.raises(TiramiError):
            agent.client.chat_completions(chat("x", 101))
        assert agent.client.balance().reserved == 0
        stream = agent.client.stream_chat(chat("[[stall_after=5]] x", 50))
        received = [next(stream) for _ in range(5)]
        assert agent.client.balance().reserved > 0
        stream.close()  # type: ignore[attr-defined]
        wait_until(lambda: agent.client.balance().reserved == 0)
        assert 0 < agent.client.balance().consumed <= len(received) + 20
        with pytest.raises(TiramiError):
            list(agent.client.stream_chat(chat("[[die_after=7 delay_ms=5]] x", 50)))
        wait_until(lambda: agent.client.balance().reserved == 0)
        agent.client.close()


def wait_until(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.row("L1-30")
def test_a_restart_keeps_keys_balances_tokens_policies_and_the_log(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node:
        agent = make_agent(node)
        with node.admin() as admin:
            admin.set_policy(PolicyRequest(node_id=agent.account, max_cu_per_hour=77))
            agent.client.chat_completions(chat("x", 9))
            head, state, identity = admin.log_head(), admin.log_state(), admin.status().node_id
        for end in (node.kill, node.stop):
            end()
            node.start()
            with node.admin() as admin, node.client(agent.token) as client:
                assert admin.log_state() == state
                assert (admin.log_head().root, admin.status().node_id) == (head.root, identity)
                assert client.safety().policy.max_cu_per_hour == 77  # type: ignore[union-attr]
        agent.client.close()


@pytest.mark.row("L1-30")
def test_a_journal_that_was_changed_cut_or_chained_by_somebody_else_is_refused(
    engine: RunningEngine, tmp_path: Path
) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node:
        make_agent(node).client.chat_completions(chat("x", 9))
        node.stop()
    for name, damage, said in (
        ("changed", "UPDATE entries SET body = zeroblob(20) WHERE seq = 3", "entry 3"),
        ("cut", "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", "is missing"),
        ("newer", "PRAGMA user_version = 99", "schema 99"),
    ):
        shutil.copytree(node.data_dir, tmp_path / name)
        with sqlite3.connect(tmp_path / name / "journal.db") as database:
            database.execute(damage)
        database.close()
        refused_start(tmp_path / name, said)
    shutil.copytree(node.data_dir, tmp_path / "foreign")
    (tmp_path / "foreign" / "node.key").write_bytes(SigningKey.generate().seed)
    refused_start(tmp_path / "foreign", "")


def refused_start(home: Path, said: str) -> None:
    with pytest.raises(AssertionError, match="the node ended with 1") as caught:
        NodeProcess(home, "--no-model").start()
    assert said in str(caught.value)


@pytest.mark.row("L1-31")
@pytest.mark.model
def test_every_trade_carries_the_work_of_its_model(model_node: NodeProcess, node: NodeProcess, agent: Agent) -> None:
    agent.client.chat_completions(chat("one two three", 20))
    trade = agent.client.trades().trades[0]
    tokens = trade.prompt_tokens + trade.tokens_processed
    assert trade.flops_estimated == 2 * 10**9 * tokens + 2 * 16 * 1024 * tokens * (tokens + 1)
    assert trade.trm_per_gflop == round(trade.trm_amount * 1e9 / trade.flops_estimated, 6)
    with model_node.client() as owner:
        owner.chat_completions(ChatCompletionRequest.model_validate(chat("Hello", 24).model_dump(exclude_unset=True)))
        real, model = owner.trades().trades[0], owner.models().data[0]
    tokens = real.prompt_tokens + real.tokens_processed
    assert real.flops_estimated == pytest.approx(2 * model.active_parameters * tokens, rel=0.05)
    assert real.flops_estimated > 2 * model.active_parameters * tokens


@pytest.mark.row("L1-09")  # chat and stream
async def test_a_killed_node_leaves_no_reservation(engine: RunningEngine, tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--upstream", engine.url) as node:
        agents = [make_agent(node) for _ in range(4)]
        for _ in range(2):
            async with crowd(node.url) as people:
                asks = [
                    asyncio.create_task(people.ask(agent.token, "[[delay_ms=3]] x", 200, stream=stream))
                    for agent in agents
                    for stream in (True, False)
                ]
                await asyncio.sleep(0.5)
                node.kill()
                await asyncio.gather(*asks, return_exceptions=True)
            node.start()
            with node.admin() as admin:
                assert all(account.reserved == 0 for account in admin.accounts().accounts)
                assert admin.log_state().sum_of_accounts == 0
        for agent in agents:
            agent.client.close()
