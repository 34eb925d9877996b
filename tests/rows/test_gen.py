"""Identity of the project."""

import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.test_saf import chat
from tirami.api.schemas import BalanceQuery
from tirami.testing import RunningEngine
from tirami.verify import verify_receipt

CHAINS = ("web3", "eth_account", "eth_abi", "vyper", "boa", "bitcoin", "embit", "bolt11", "nostr_sdk", "opentimestamps")
BLOCKER = f"""
import sys

class NoChain:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {CHAINS!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, NoChain())
"""


@pytest.mark.row("GEN-08")
def test_a_node_earns_and_an_agent_spends_without_chain_wallet_or_rpc(engine: RunningEngine, tmp_path: Path) -> None:
    """Libraries of other chains cannot be imported by this node; nothing but its own key file exists."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    environment = {"PYTHONPATH": str(blocked), "TIRAMI_PRICING_PROMPT_PPM": "0", "TIRAMI_PRICING_FOLLOW_LOAD": "false"}
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env=environment) as node:
        agent = make_agent(node)
        paid = agent.client.chat_completions(chat("say something", 25)).x_tirami
        agent.client.close()
        with node.admin() as admin:
            earned = admin.balance(BalanceQuery(node=admin.status().node_id))
            spent = admin.balance(BalanceQuery(node=agent.account))
        assert (paid.trm_cost, earned.contributed, spent.consumed) == (25, 25, 25)
    assert sorted(path.name for path in node.data_dir.iterdir()) == [
        "admin.token",
        "journal.db",
        "journal.path",
        "journal.snapshot",
        "journal.tip",
        "lock",
        "node.key",
        "node.log",
    ]


@pytest.mark.row("GEN-08")
def test_whoever_loads_a_whole_node_loads_no_chain() -> None:
    code = "import sys, tirami.cli.host, tirami.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "tirami" in loaded.stdout.split()
    assert not set(CHAINS) & set(loaded.stdout.split())


# --- every paid path, and what is left of it in the book -----------------------------------------------------------

QUESTION = [{"role": "user", "content": "say something"}]
PAID = ("chat", "stream", "choices", "cut", "completion", "embedding", "response", "old", "denied", "broken")


def ask(node: NodeProcess, token: str, how: str, most: int) -> None:
    """One paid request of a kind; whatever it is answered."""
    headers = {"authorization": f"Bearer {token}"}
    chat_body: dict[str, object] = {"messages": QUESTION, "max_tokens": most}
    path, body = {
        "chat": ("/v1/chat/completions", chat_body),
        "choices": ("/v1/chat/completions", {**chat_body, "n": 3}),
        "stream": ("/v1/chat/completions", {**chat_body, "stream": True}),
        "cut": ("/v1/chat/completions", {**chat_body, "stream": True, "max_tokens": 200}),
        "completion": ("/v1/completions", {"prompt": "say", "max_tokens": most}),
        "embedding": ("/v1/embeddings", {"input": ["one", "two words"]}),
        "response": ("/v1/responses", {"input": "say", "max_output_tokens": most}),
        "old": ("/chat", {"prompt": "say", "max_tokens": most}),
        "denied": ("/v1/chat/completions", {**chat_body, "max_tokens": 3_900}),
        "broken": (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "[[break_after=3]] x"}], "max_tokens": 9},
        ),
    }[how]
    with httpx2.stream("POST", node.url + path, json=body, headers=headers, trust_env=False) as reply:
        for read, _ in enumerate(reply.iter_lines()):
            if how == "cut" and read > most:
                return


@pytest.mark.row("GEN-02")  # over HTTP
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(PAID), st.integers(1, 40)), min_size=1, max_size=8))
def test_every_change_of_a_balance_is_a_record_with_two_valid_signatures(
    node: NodeProcess, calls: list[tuple[str, int]]
) -> None:
    agent = make_agent(node)
    before = agent.client.balance()
    for how, most in calls:
        ask(node, agent.token, how, most)
    with node.admin() as admin:
        while admin.balance(BalanceQuery(node=agent.account)).reserved:  # whoever left is noticed a moment later
            time.sleep(0.02)
        trades = admin.balance(BalanceQuery(node=agent.account, limit=100)).history
        signed = [verify_receipt(admin.trade_receipt(trade.id)) for trade in trades if trade.consumer == agent.account]
    after = agent.client.balance()
    agent.client.close()
    assert before.net_balance - after.net_balance == sum(receipt.trade.amount for receipt in signed)
    assert all(receipt.trade.payer.hex() == agent.account for receipt in signed)
    assert len({receipt.record_id for receipt in signed}) == len(signed)
