"""``tirami mesh``, ``pause`` and ``resume`` where little is sold."""

from tests.cli.running import Foreground, Shell
from tirami.api.schemas import ProbeEntry
from tirami.cli.mesh import _reachable

QUIET = {"TIRAMI_MESH_LAN": "false", "TIRAMI_MESH_BIND": "127.0.0.1:0"}


def test_off_the_mesh_a_pause_says_that_nothing_was_sold(shell: Shell) -> None:
    paused = shell.run("pause")
    assert (paused.code, "paused" in paused.out) == (0, True)
    assert "not on the mesh" in paused.err
    assert "not on the mesh" in shell.run("resume").err
    assert shell.run("pause", "--json").json["paused"] is True
    shell.run("resume")


def test_who_sells_nothing_is_told_why(nowhere: Shell) -> None:
    options = ("start", "--no-model", "--port", "0")
    with Foreground(nowhere, *options, TIRAMI_MESH_ENABLED="true", **QUIET) as started:
        started.until("Press Ctrl-C")
        assert "no model" in nowhere.run("pause").err
        assert nowhere.run("pause").err == "", "it was paused already"
        assert "no model" in nowhere.run("resume").err
        assert started.end() == 0
    with Foreground(nowhere, *options, "--no-sell", TIRAMI_MESH_ENABLED="true", **QUIET) as started:
        started.until("Press Ctrl-C")
        assert nowhere.run("mesh", "status", "--json").json["selling"]["on"] is False
        assert "mesh.sell" in nowhere.run("pause").err
        assert started.end() == 0


def test_when_a_peer_looked_has_a_date_and_a_zone() -> None:
    probe = ProbeEntry(by=None, reached=True, rtt_ms=3.0, address=None, at_ms=1_700_000_000_000)
    assert _reachable(probe, 1).endswith("2023-11-14 22:13:20+00:00")
    assert "2023-11-14 22:13:20+00:00" in _reachable(probe.model_copy(update={"rtt_ms": None}), 1)
