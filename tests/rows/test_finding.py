"""Finding each other, from outside: real processes, QUIC over loopback, the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.net.test_linkdrop import can_unshare
from tests.processes import NodeProcess
from tests.rows.meshes import LOOPBACK, homes
from tests.rows.test_l1 import wait_until
from tests.soak.test_hosts import can_play
from tirami.api.schemas import BalanceQuery
from tirami.core.keyfile import load_or_create_node_key

TIRAMI = [sys.executable, "-m", "tirami.cli"]


def tirami(node: NodeProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*TIRAMI, *words, "--data-dir", str(node.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def said(node: NodeProcess, event: str, **facts: str) -> float | None:
    """When the log first said this, seconds since 1970; ``None`` if it did not."""
    for line in node.log().splitlines():
        entry = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
        if entry.get("event") == event and facts.items() <= entry.items():
            return datetime.fromisoformat(entry["timestamp"]).timestamp()
    return None


def met(node: NodeProcess, key: str) -> bool:
    """Whether the log says that this peer is connected, its key proven."""
    return said(node, "peer_connected", peer=key) is not None


@pytest.mark.row("L0-07")
@pytest.mark.row("L0-08")
def test_nodes_meet_by_public_key(tmp_path: Path) -> None:
    made = homes(tmp_path)
    with made.node(0) as first:
        address = json.loads(tirami(first, "invite", "--json").stdout)["addresses"][0]
        right, wrong = made.keys[0], made.keys[1]
        with made.node(1, TIRAMI_MESH_BOOTSTRAP=f"{right}@{address}", TIRAMI_MESH_PEERS="0") as second:
            wait_until(lambda: met(second, right), 10)
        with made.node(1, TIRAMI_MESH_BOOTSTRAP=f"{'ab' * 31}aa@{address}") as second:
            assert wrong != right
            wait_until(lambda: "does not hold its key" in second.log() or "peer_unreachable" in second.log(), 10)


@pytest.mark.row("L0-07")
def test_whether_a_node_can_be_reached_is_shown(tmp_path: Path) -> None:
    """Each is called by the other from an endpoint of its own: once a minute and peer, so the first answers stand.

    What the other signed is shown after a restart, too, while nobody is there who could look again.
    """
    made = homes(tmp_path)
    with made.node(0) as first:
        address = json.loads(tirami(first, "invite", "--json").stdout)["addresses"][0]
        bootstrap = f"{made.keys[0]}@{address}"
        with made.node(1, TIRAMI_MESH_BOOTSTRAP=bootstrap) as second, second.admin() as client:
            wait_until(lambda: client.mesh().probe is not None, 30)
            probe = client.mesh().probe
            assert probe is not None and (probe.by, probe.reached) == (made.keys[0], True)
            assert probe.rtt_ms is not None and probe.rtt_ms < 4_000
            assert "yes: peer" in tirami(second, "mesh", "status").stdout
            with first.admin() as other:
                (entry,) = other.peers().peers
                assert entry.probe is not None and (entry.probe.by, entry.probe.reached) == (made.keys[0], True)
    with made.node(1) as second, second.admin() as client:
        wait_until(lambda: client.mesh().probe == probe, 10)
        assert client.mesh().peers == 0
        assert "Before: yes: peer" in tirami(second, "mesh", "status").stdout


@pytest.mark.row("L0-07")
@pytest.mark.skipif(not can_unshare, reason="this machine lets nobody make a network namespace")
@pytest.mark.parametrize("down_s", [3, 12])
def test_back_within_5_seconds_after_the_link_is(down_s: int, record_property: Callable[[str, object], None]) -> None:
    """A veth pair whose link goes down, a node in a namespace of its own at each end."""
    command = ["unshare", "-rn", sys.executable, "-m", "tests.net.linkdrop", str(down_s)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    figure = f"answered {figures['back_s']} s after a link came back that was down for {down_s} s, QUIC over veth"
    record_property("figure", figure)
    assert figures["back_s"] < 5


@pytest.mark.row("L0-07")
@pytest.mark.skipif(not can_play, reason="this machine lets nobody make network namespaces")
def test_who_cannot_reach_each_other_meet_over_a_relay(tmp_path: Path) -> None:
    command = ["unshare", "-rnm", sys.executable, "-m", "tests.rows.relayed", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert not figures["direct"], "the host between them passes nothing on"
    assert figures["links"] == [{"node_id": figures["peer"], "relayed": True}]
    assert figures["there"] > 0 and figures["back"] > 0


def test_an_invitation_from_one_shell_to_another(tmp_path: Path) -> None:
    made = homes(tmp_path, 3)
    with made.node(0) as first:
        invited = tirami(first, "invite", "--expires", "1h")
        assert invited.returncode == 0, invited.stderr
        token = invited.stdout.strip()
        assert token.startswith("tirami1.") and "testnet" in invited.stderr
        with made.node(1, token, command="join") as second:
            wait_until(lambda: "invitation_taken" in second.log(), 20)
            with second.admin() as client:
                wait_until(lambda: client.balance(BalanceQuery(node=made.keys[1])).effective_balance == 1_000, 20)
        with made.node(2) as third:
            again = tirami(third, "join", token)
            assert (again.returncode, "has been used" in again.stderr) == (1, True), again.stderr
            fresh = tirami(first, "invite", "--json")
            joined = tirami(third, "join", json.loads(fresh.stdout)["token"], "--json")
            assert json.loads(joined.stdout)["inviter"] == made.keys[0], joined.stderr
            _check_list_and_revoke(first, third, made.keys)
    with made.node(0) as first, made.node(1) as second:
        wait_until(lambda: met(second, made.keys[0]), 20)


def _check_list_and_revoke(first: NodeProcess, third: NodeProcess, keys: tuple[str, ...]) -> None:
    taken = tirami(first, "invite", "--label", "for nobody", "--json")
    token, number = (json.loads(taken.stdout)[name] for name in ("token", "invite"))
    shown = tirami(first, "invite", "list", "--json")
    entries = json.loads(shown.stdout)
    assert [(entry["state"], entry["used_by"]) for entry in entries] == [
        ("used", keys[1]),
        ("used", keys[2]),
        ("open", None),
    ]
    assert "tirami1." not in shown.stdout
    revoked = tirami(first, "invite", "revoke", number[:20])
    assert (revoked.returncode, "revoked" in revoked.stdout) == (0, True), revoked.stderr
    late = tirami(third, "join", token)
    assert (late.returncode, "taken back" in late.stderr) == (1, True), late.stderr


@pytest.mark.row("L0-08")
def test_two_nodes_on_one_host_find_each_other_unconfigured(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = homes(tmp_path, 3)
    with made.node(0, TIRAMI_MESH_LAN="true") as first, made.node(1, TIRAMI_MESH_LAN="true") as second:
        wait_until(lambda: met(second, made.keys[0]) and met(first, made.keys[1]), 30)
        took = (said(second, "peer_connected", peer=made.keys[0]) or 0) - (said(second, "mesh_joined") or 0)
        record_property("figure", f"two nodes of one host connected after {took:.2f} s, mDNS on loopback")
        assert took < 3


def test_a_token_is_all_a_newcomer_needs(tmp_path: Path) -> None:
    """The inviter's own network, its file, its address, the welcome line, and the mesh again at later starts."""
    quiet = {key: value for key, value in LOOPBACK.items() if key != "TIRAMI_MESH_ENABLED"}
    here, there = tmp_path / "here" / ".tirami", tmp_path / "there" / ".tirami"
    with NodeProcess(here, "--no-model", env=LOOPBACK) as first:
        token = tirami(first, "invite").stdout.strip()
        with NodeProcess(there, token, "--no-model", env=quiet, command="join") as second:
            own = BalanceQuery(node=load_or_create_node_key(there / "node.key")[0].public_key.hex())
            with second.admin() as client:
                wait_until(lambda: client.balance(own).effective_balance == 1_000, 20)
        with NodeProcess(there, "--no-model", env=quiet) as second:
            with second.admin() as client:
                wait_until(lambda: client.peers().connected == 1, 30)
        settings = there / "config.toml"
        settings.write_text("# mine\n")
        with NodeProcess(there, token, "--no-model", env=quiet, command="join"):
            assert settings.read_text() == "# mine\n", "what is there stays"
