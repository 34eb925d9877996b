"""One node on the real small model for all clients, one on the testing engine for what a model cannot be made to do."""

from collections.abc import Iterator

import pytest

from tests.clients.customer import Customer, new_customer
from tests.clients.relay import Relay, relay
from tests.processes import NodeProcess
from tirami.testing import RunningEngine, start_engine


@pytest.fixture(scope="module")
def model_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One for each client: a node has welcome lines for a hundred accounts a day."""
    home = tmp_path_factory.mktemp("clients") / "home"
    env = {"TIRAMI_API_RATE_PER_SECOND": "9999"}
    with NodeProcess(home, "--model", "smollm2:135m", env=env) as running:
        yield running


@pytest.fixture
def customer(model_node: NodeProcess) -> Customer:
    """A new account on the model's node."""
    return new_customer(model_node)


@pytest.fixture
def wire(customer: Customer) -> Iterator[Relay]:
    """A relay to the model's node."""
    with relay(customer.node.url) as running:
        yield running


@pytest.fixture(scope="package")
def engine() -> Iterator[RunningEngine]:
    running = start_engine()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def narrow_node(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One slot and nowhere to wait: the second request at a time is turned away."""
    home = tmp_path_factory.mktemp("narrow") / "home"
    env = {"TIRAMI_API_RATE_PER_SECOND": "9999", "TIRAMI_INFER_SLOTS": "1", "TIRAMI_INFER_QUEUE": "0"}
    with NodeProcess(home, "--upstream", engine.url, env=env) as running:
        yield running


@pytest.fixture
def turned_away(narrow_node: NodeProcess) -> Customer:
    """A customer of the narrow node."""
    return new_customer(narrow_node)
