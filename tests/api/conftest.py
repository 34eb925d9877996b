"""Real node processes on the testing engine, one for each scope: what one may do changes nothing for another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tirami.api import Scope
from tirami.api.schemas import AccountRequest, TokenRequest
from tirami.testing import RunningEngine, start_engine


@dataclass(frozen=True)
class Target:
    """A node nobody has used before, and a token of one scope for it; ``None`` for nobody's."""

    url: str
    scope: Scope
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}


@pytest.fixture(scope="package")
def engine() -> Iterator[RunningEngine]:
    running = start_engine()
    yield running
    running.stop()


@contextmanager
def fresh_target(engine: RunningEngine, home: Path, scope: Scope) -> Iterator[Target]:
    """Tokens that may spend speak for a hosted account; who has no token is nobody, also on this machine."""
    env = {
        "TIRAMI_API_RATE_PER_SECOND": "1000000",
        "TIRAMI_LOG_LEVEL": "error",
        "TIRAMI_AUTH_LOOPBACK_OWNER": "false",
    }
    with NodeProcess(home, "--upstream", engine.url, env=env) as node, node.admin() as admin:
        token = None
        if scope is not Scope.PUBLIC:
            spends = scope in (Scope.INFERENCE, Scope.ECONOMY)
            account = admin.create_account(AccountRequest(label="fuzzed")).account if spends else None
            token = admin.issue_token(TokenRequest(scope=scope.wire, node_id=account)).token
        yield Target(node.url, scope, token)


@pytest.fixture(scope="module", params=list(Scope), ids=lambda scope: scope.wire)
def target(
    request: pytest.FixtureRequest, engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """Each scope in turn, each on a node of its own."""
    with fresh_target(engine, tmp_path_factory.mktemp("api") / "home", request.param) as made:
        yield made


@pytest.fixture(scope="package")
def admin_target(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with fresh_target(engine, tmp_path_factory.mktemp("admin") / "home", Scope.ADMIN) as made:
        yield made


@pytest.fixture(scope="module")
def switch_target(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """For the operations that change what every other one meets."""
    with fresh_target(engine, tmp_path_factory.mktemp("switches") / "home", Scope.ADMIN) as made:
        yield made
