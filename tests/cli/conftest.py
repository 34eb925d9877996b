"""One real node on the testing engine for all commands that only talk to a node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.processes import NodeProcess
from tirami.testing import RunningEngine, start_engine


@pytest.fixture(scope="package")
def engine() -> Iterator[RunningEngine]:
    running = start_engine()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def node(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home = tmp_path_factory.mktemp("cli") / ".tirami"
    env = {"TIRAMI_API_RATE_PER_SECOND": "100000", "TIRAMI_PRICING_FOLLOW_LOAD": "false"}
    with NodeProcess(home, "--upstream", engine.url, env=env) as running:
        yield running


@pytest.fixture
def shell(node: NodeProcess) -> Shell:
    """At home where the node's data directory is ``~/.tirami``."""
    return Shell(node.data_dir.parent)


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """A home in which nothing has ever run."""
    return Shell(tmp_path)
