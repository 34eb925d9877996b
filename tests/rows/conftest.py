"""Real node processes, one on the testing engine and one on the small model; each test gets an agent of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.processes import NodeProcess
from tirami.api.schemas import AccountRequest, TokenRequest
from tirami.sdk import Tirami
from tirami.testing import RunningEngine, start_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[RunningEngine]:
    running = start_engine()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def node(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Prices stand still and prompts are free, so that costs are round."""
    env = {
        "TIRAMI_PRICING_PROMPT_PPM": "0",
        "TIRAMI_PRICING_FOLLOW_LOAD": "false",
        "TIRAMI_API_RATE_PER_SECOND": "9999",
    }
    home = tmp_path_factory.mktemp("rows") / "home"
    with NodeProcess(home, "--upstream", engine.url, env=env) as running:
        yield running


@pytest.fixture(scope="session")
def model_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node on the real small model."""
    home = tmp_path_factory.mktemp("model") / "home"
    with NodeProcess(home, "--model", "smollm2:135m", env={"TIRAMI_API_RATE_PER_SECOND": "9999"}) as running:
        yield running


@dataclass(frozen=True)
class Agent:
    account: str
    token: str
    client: Tirami


@pytest.fixture
def agent(node: NodeProcess) -> Iterator[Agent]:
    made = make_agent(node)
    yield made
    made.client.close()


def make_agent(node: NodeProcess) -> Agent:
    with node.admin() as admin:
        account = admin.create_account(AccountRequest(label="row")).account
        token = admin.issue_token(TokenRequest(scope="inference", node_id=account)).token
    return Agent(account, token, node.client(token))
