"""``tirami safety`` against a running node."""

from collections.abc import Iterator

import pytest

from tests.cli.running import Foreground, Shell
from tests.processes import NodeProcess


@pytest.fixture(autouse=True)
def _released(shell: Shell) -> Iterator[None]:
    yield
    shell.run("safety", "release")


@pytest.mark.row("DEMO-10")
def test_the_kill_switch_freezes_and_releases(shell: Shell) -> None:
    ended = shell.run("safety", "kill", "--reason", "odd [/spending]")
    assert (ended.code, ended.err) == (0, "")
    assert "→ KILL SWITCH ACTIVATED" in ended.out
    assert "→ All TRM transactions frozen. No agent can spend." in ended.out
    refused = shell.run("chat", "hi", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "kill_switch_active")
    shown = shell.run("safety", "show")
    assert "ACTIVE: odd [/spending]" in shown.out
    state = shell.run("safety", "show", "--json").json
    assert (state["kill_switch_active"], state["kill_operator"]) == (True, "owner: tester"), "USER says who"
    ended = shell.run("safety", "release")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("→ ")
    assert shell.run("chat", "hi", "-n", "2").code == 0
    assert "off" in shell.run("safety", "show").out


def test_kill_and_release_as_json(shell: Shell) -> None:
    killed = shell.run("safety", "kill", "--reason", "why", "--operator", "who", "--json").json
    assert (killed["active"], killed["reason"], killed["operator"]) == (True, "why", "owner: who")
    released = shell.run("safety", "release", "--json").json
    assert released["active"] is False
    assert released["position"] > killed["position"]


def test_the_switch_needs_an_administrator(shell: Shell, node: NodeProcess) -> None:
    ended = shell.run("safety", "kill", "--data-dir", str(shell.home / "empty"), "--url", node.url, "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "insufficient_scope")
    assert shell.run("safety", "show", "--json").json["kill_switch_active"] is False


def test_the_owner_has_no_budgets(shell: Shell) -> None:
    assert shell.run("safety", "show", "--json").json["policy"] is None
    assert "no limit" in shell.run("safety", "show").out


def test_budgets_are_set_kept_or_switched_off(shell: Shell) -> None:
    account = shell.run("agent", "create", "x", "--json").json["account"]
    ended = shell.run("safety", "policy", account[:24], "--per-request", "7", "--lifetime", "none", "--json")
    assert (ended.code, ended.json["node_id"]) == (0, account)
    wanted = {"max_cu_per_request": 7, "max_cu_per_hour": 10_000, "max_cu_lifetime": None}
    assert ended.json["policy"].items() >= wanted.items()
    ended = shell.run("safety", "policy", account, "--per-hour", "0")
    assert (ended.code, ended.err) == (0, "")
    assert "policy set" in ended.out
    shown = shell.run("safety", "show", "--account", account[:24])
    assert "Per request:" in shown.out
    assert "0 of 0 TRM" in shown.out
    assert "7 TRM" in shown.out, "what was set before and is not named stays"


@pytest.mark.parametrize("budget", ["-1", "1.5", "", "ten", "1e3", "0x10", "१", "9" * 17])
def test_a_budget_is_a_whole_number_or_none(shell: Shell, budget: str) -> None:
    ended = shell.run("safety", "policy", "ab" * 32, f"--per-hour={budget}")
    assert (ended.code, ended.out) == (2, "")


def test_a_budget_beyond_what_json_carries_is_refused(shell: Shell) -> None:
    ended = shell.run("safety", "policy", "ab" * 32, "--per-hour", str(2**53))
    assert (ended.code, ended.out) == (1, "")
    assert "(invalid_field)" in ended.err


def test_times_have_a_date_and_a_zone(shell: Shell) -> None:
    made = shell.run("agent", "create", "x", "--budget-request", "0", "--json").json
    assert shell.run("chat", "hi", "--token", made["token"]).code == 1
    shown = shell.run("safety", "show", "--account", made["account"], COLUMNS="200").out
    assert "budget_exceeded" in shown and "+00:00" in shown


def test_on_the_mesh_the_nodes_key_is_shown_for_it_pays(nowhere: Shell) -> None:
    quiet = {"TIRAMI_MESH_ENABLED": "true", "TIRAMI_MESH_LAN": "false", "TIRAMI_MESH_BIND": "127.0.0.1:0"}
    with Foreground(nowhere, "start", "--no-model", "--port", "0", **quiet) as started:
        started.until("Press Ctrl-C")
        node = nowhere.run("wallet", "identity", "--json").json["node_id"]
        state = nowhere.run("safety", "show", "--json").json
        assert state["node_id"] == node and state["policy"]["max_cu_per_hour"] > 0
        assert "(the node's key, which pays on the mesh)" in nowhere.run("safety", "show", COLUMNS="200").out
        agent = nowhere.run("agent", "create", "x", "--json").json
        assert nowhere.run("safety", "show", "--token", agent["token"], "--json").json["node_id"] == agent["account"]
        assert started.end() == 0
