"""Nodes whose clocks differ, as processes (``tirami.testing.ahead``): what still works, and what is said where not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.mesh import APART, address_of, eventually, network, seed, worker
from tirami.api.schemas import ChatCompletionRequest, KillReply, KillRequest, PeerEntry, PeersQuery, SafetyQuery
from tirami.core.errors import TiramiError

MODEL = "smollm2:135m"


def by_clock(ahead_s: int) -> str:
    return f"tirami.testing.ahead {ahead_s} tirami.cli"


@contextmanager
def two(directory: Path, ahead_s: int) -> Iterator[tuple[NodeProcess, NodeProcess, dict[str, str]]]:
    """Both without a model, connected; the second obeys the first, buys of anybody, and its clock is ahead."""
    file, keys = network(directory, "boss", "other")
    options, env = ("--no-model", "--network", str(file)), APART | {"TIRAMI_MESH_ENABLED": "true"}
    env |= {"TIRAMI_MESH_BIND": "127.0.0.1:0", "TIRAMI_MESH_PEERS": "0"}
    with NodeProcess(directory / "boss", *options, env=env) as boss:
        env |= {"TIRAMI_MESH_BOOTSTRAP": address_of(boss), "TIRAMI_MESH_OPERATOR": keys["boss"]}
        env |= {"TIRAMI_MESH_CONSUME": "any"}
        with NodeProcess(directory / "other", *options, env=env, program=by_clock(ahead_s)) as other:
            eventually(lambda: (met := peer(other)) is not None and met.clock_ahead_ms is not None)
            yield boss, other, keys


def peer(node: NodeProcess) -> PeerEntry | None:
    with node.admin() as admin:
        return next((one for one in admin.peers(PeersQuery()).peers if one.connected), None)


def ordered(node: NodeProcess, activate: bool) -> KillReply:
    with node.admin() as admin:
        return admin.kill(KillRequest(activate=activate, reason="fire drill", mesh=True))


def frozen(node: NodeProcess) -> bool:
    with node.admin() as admin:
        return admin.safety(SafetyQuery()).kill_switch_active


@pytest.mark.alone("the order is obeyed and answered within a second")
@pytest.mark.row("SAF-01", part="mesh-wide, whatever the clocks say")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ahead_s", [700, -700])
def test_the_mesh_wide_kill_is_obeyed_over_700_seconds_of_clocks_and_the_operator_told(
    tmp_path: Path, ahead_s: int
) -> None:
    with two(tmp_path, ahead_s) as (boss, other, keys):
        for active in (True, False, True):
            reply = ordered(boss, active)
            assert reply.mesh is not None
            assert (reply.mesh.peers, reply.mesh.refused) == (1, {})
            eventually(lambda active=active: frozen(other) is active, 1)
            assert reply.mesh.obeyed == [keys["other"]]


@pytest.mark.alone("the order is answered within a second")
@pytest.mark.row("SAF-01", part="mesh-wide, an order that is dropped is told")
@pytest.mark.timeout(300)
def test_of_another_hour_the_truth_is_told_everywhere(tmp_path: Path) -> None:
    with two(tmp_path, 7_200) as (boss, other, keys):
        met = peer(other)
        assert met is not None and met.why_not == "its clock is 120 minutes behind ours"
        with other.admin() as admin:
            with pytest.raises(TiramiError, match="no peer whose clock agrees with ours serves one"):
                admin.chat_completions(ChatCompletionRequest.model_validate({"messages": [HELLO]}))
            (warning,) = [one for one in admin.status().warnings if one.code == "clock_differs"]
        assert "120 minutes ahead of the only peer's" in warning.message
        assert other.log().count("peer_clock_differs") == 1
        reply = ordered(boss, True)
        assert reply.mesh is not None and reply.mesh.obeyed == [] and not frozen(other)
        assert list(reply.mesh.refused) == [keys["other"]]
        eventually(lambda: "kill_order_dropped" in other.log(), 10)


HELLO = {"role": "user", "content": "Say hello."}


@pytest.mark.model
@pytest.mark.row("L1-09")  # clocks of three minutes apart
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ahead_s", [180, -180])
def test_three_minutes_apart_they_trade(tmp_path: Path, ahead_s: int) -> None:
    file, _ = network(tmp_path, "seller", "buyer")
    with seed(tmp_path / "seller", file, "--model", MODEL) as seller:
        with worker(tmp_path / "buyer", file, address_of(seller), program=by_clock(ahead_s)) as buyer:
            eventually(lambda: (met := peer(buyer)) is not None and met.why_not is None)
            asked = ChatCompletionRequest.model_validate({"messages": [HELLO], "max_tokens": 80})
            with buyer.admin() as admin:
                answer = admin.chat_completions(asked)
            assert answer.usage.completion_tokens > 0
            met = peer(buyer)
            assert met is not None and abs((met.clock_ahead_ms or 0) + 1_000 * ahead_s) < 2_000
