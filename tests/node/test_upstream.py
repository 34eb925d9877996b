"""A node over an upstream that comes late, goes, and comes back: it is well again by itself, without a request."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.test_l1 import wait_until
from tests.rows.test_saf import chat
from tirami.core.errors import TiramiError
from tirami.testing import EngineProcess

ASKED = chat("hello", 4)


def ready(node: NodeProcess) -> bool:
    """As a balancer asks."""
    try:
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def test_a_node_is_ready_when_its_upstream_comes_and_again_when_it_comes_back(tmp_path: Path) -> None:
    with EngineProcess() as engine:
        engine.kill()
        node = NodeProcess(tmp_path / "home", "--upstream", engine.url)
        node.modelless = True  # it serves before there is a model
        with node, node.client() as client:
            assert not ready(node)
            with pytest.raises(TiramiError) as caught:
                client.chat_completions(ASKED)
            assert (caught.value.code, bool(caught.value.retry_after)) == ("no_model", True)
            for _ in range(2):
                engine.restart()
                wait_until(lambda: ready(node), 40)
                client.chat_completions(ASKED)
                engine.kill()
                with pytest.raises(TiramiError):
                    client.chat_completions(ASKED)
                assert not ready(node)
        assert node.log().count('"upstream_back"') == 1
