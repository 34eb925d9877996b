"""A real node process on the testing engine, with tokens of the highest and the lowest scope."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.processes import NodeProcess
from tirami.api.schemas import TokenRequest
from tirami.testing import start_engine


@dataclass(frozen=True)
class Target:
    """A node to send requests to. ``tokens`` by scope."""

    url: str
    tokens: dict[str, str]


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    engine = start_engine()
    home = tmp_path_factory.mktemp("api") / "home"
    env = {"TIRAMI_API_RATE_PER_SECOND": "1000000", "TIRAMI_LOG_LEVEL": "error"}
    try:
        with NodeProcess(home, "--upstream", engine.url, env=env) as node, node.admin() as admin:
            scopes = ("read_only", "inference", "economy", "admin")
            yield Target(node.url, {scope: admin.issue_token(TokenRequest(scope=scope)).token for scope in scopes})
    finally:
        engine.stop()
