"""``tirami wallet``: the key, never its secret."""

from pathlib import Path

import pytest

from tests.cli.running import Shell


@pytest.mark.row("CLI-03")
def test_the_key_is_made_once_and_for_nobody_else(nowhere: Shell) -> None:
    made = nowhere.run("wallet", "identity", "--json")
    assert (made.code, made.err) == (0, "")
    key = nowhere.home / ".tirami" / "node.key"
    assert made.json == {
        "wallet_file": str(key),
        "status": "created",
        "node_id": made.json["node_id"],
        "file_permissions": "0600",
    }
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o077 == 0
    seed = key.read_bytes()
    again = nowhere.run("wallet", "identity")
    assert again.out.splitlines() == [
        f"Wallet file:        {key}",
        "Status:             loaded",
        f"Node ID (Ed25519):  {made.json['node_id']}",
        "File permissions:   0600",
    ]
    assert key.read_bytes() == seed
    assert seed.hex() not in again.out + made.out


def test_it_is_the_running_nodes_identity(shell: Shell) -> None:
    identity = shell.run("wallet", "identity", "--json").json
    assert identity["node_id"] == shell.run("status", "--json").json["node_id"]


def test_another_key_file_may_be_named(nowhere: Shell, tmp_path: Path) -> None:
    path = tmp_path / "odd :x: [name]" / "my.key"
    made = nowhere.run("wallet", "identity", "--key-path", str(path))
    assert (made.code, made.err) == (0, "")
    assert str(path) in made.out
    assert not (nowhere.home / ".tirami").exists()


@pytest.mark.row("CLI-03")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_open_to_others_is_refused(nowhere: Shell, mode: int) -> None:
    nowhere.run("wallet", "identity")
    key = nowhere.home / ".tirami" / "node.key"
    key.chmod(mode)
    ended = nowhere.run("wallet", "identity", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "key_file")
    assert f"{key} is open to others (mode {mode:04o})" in ended.err


def test_the_balance_of_the_node_and_of_an_account(shell: Shell) -> None:
    node = shell.run("wallet", "identity", "--json").json["node_id"]
    before = shell.run("wallet", "balance", "--json").json
    assert before["node_id"] == node
    agent = shell.run("agent", "create", "payer", "--json").json
    cost = shell.run("chat", "hi", "-n", "4", "--token", agent["token"], "--json").json["trm_cost"]
    after = shell.run("wallet", "balance", "--json").json
    assert after["contributed"] == before["contributed"] + cost
    shown = shell.run("wallet", "balance").out
    assert "(the node's key)" in shown and "Can spend:" in shown and "Own use here:" in shown
    own = shell.run("wallet", "balance", "--account", agent["account"][:20], "--json").json
    assert (own["node_id"], own["consumed"]) == (agent["account"], cost)
