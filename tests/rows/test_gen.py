"""Identity of the project."""

import sys
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.test_saf import chat
from tirami.api.schemas import BalanceQuery
from tirami.testing import RunningEngine

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
        "journal.tip",
        "lock",
        "node.key",
        "node.log",
    ]


@pytest.mark.row("GEN-08")
def test_nothing_that_was_installed_is_a_chain() -> None:
    assert not set(CHAINS) & {name.partition(".")[0] for name in sys.modules}
