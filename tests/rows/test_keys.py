"""A key that ends, from outside: real processes, QUIC over loopback, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes import NodeProcess
from tests.rows.meshes import LOOPBACK, homes
from tests.rows.test_finding import met, tirami
from tests.rows.test_l1 import wait_until
from tirami.core.keyfile import load_or_create_node_key


def asked(node: NodeProcess, *words: str) -> Any:
    done = tirami(node, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.row("BEY-15", part="key rotation")
def test_a_key_is_rotated_at_the_command_line_and_its_successor_joins(tmp_path: Path) -> None:
    made, new = homes(tmp_path), tmp_path / "new" / ".tirami"
    old = made.keys[1]
    with made.node(0) as first, made.node(1, TIRAMI_MESH_BOOTSTRAP=invited_address(first, made.keys[0])) as second:
        wait_until(lambda: met(second, made.keys[0]), 20)
        alone = tirami(second, "key", "rotate", str(new))
        assert alone.returncode == 1 and "--yes" in alone.stderr and not new.exists()
        itself = tirami(second, "key", "rotate", str(second.data_dir), "--yes")
        assert (itself.returncode, "does not follow itself" in itself.stderr) == (3, True), itself.stderr
        assert asked(second, "key", "show")["ended"] is False
        ended = asked(second, "key", "rotate", str(new), "--yes")
        follows = load_or_create_node_key(new / "node.key")[0].public_key.hex()
        assert (ended["node_id"], ended["successor"]) == (old, follows)
        for node in (first, second):
            wait_until(lambda node=node: asked(node, "key", "show", old)["ended"], 20)  # type: ignore[misc]
            assert asked(node, "key", "show", old)["acts_now"] == follows
        assert "own_key_ended" in json.dumps(asked(second, "status")["warnings"])
        assert follows in tirami(second, "key", "show").stdout
        again = tirami(second, "key", "rotate", str(tmp_path / "other"), "--yes")
        assert (again.returncode, "ended already" in again.stderr) == (1, True), again.stderr
        token = tirami(second, "invite").stdout.strip()
        with NodeProcess(new, token, "--no-model", env=LOOPBACK, command="join") as third:
            wait_until(lambda: "invitation_taken" in third.log(), 20)
            wait_until(lambda: asked(third, "key", "show", old)["acts_now"] == follows, 20)
            assert asked(third, "key", "show")["ended"] is False


@pytest.mark.row("BEY-15", part="key rotation")
def test_a_node_goes_on_under_a_new_key_in_its_own_directory(tmp_path: Path) -> None:
    made = homes(tmp_path)
    with made.node(0) as first:
        address = invited_address(first, made.keys[0])
        with made.node(1, TIRAMI_MESH_BOOTSTRAP=address) as second:
            wait_until(lambda: met(second, made.keys[0]), 20)
            lodger = asked(second, "agent", "create", "lodger")["account"]
            elsewhere = tirami(first, "key", "rotate", "--yes", "--url", second.url, "--token", token(second))
            assert elsewhere.returncode == 1 and "run this on its machine" in elsewhere.stderr
            follows = asked(second, "key", "rotate", "--yes")["successor"]
            assert second.stop() == 0
            second.start()
            assert asked(second, "key", "show")["node_id"] == follows != made.keys[1]
            assert asked(second, "key", "show")["ended"] is False
            wait_until(lambda: met(first, follows), 20)
            assert asked(first, "key", "show", made.keys[1])["acts_now"] == follows
            assert lodger in json.dumps(asked(second, "agent", "list"))
            assert second.stop() == 0
            second.start()
            assert asked(second, "key", "show")["node_id"] == follows


@pytest.mark.row("BEY-15", part="key rotation")
def test_a_key_is_revoked_by_its_whole_name_only(tmp_path: Path) -> None:
    made = homes(tmp_path)
    with made.node(1) as node:
        other = tirami(node, "key", "revoke", made.keys[0], "--yes")
        assert (other.returncode, made.keys[1] in other.stderr) == (1, True), other.stderr
        assert asked(node, "key", "revoke", made.keys[1], "--yes")["successor"] is None
        assert asked(node, "key", "show")["acts_now"] is None
        assert "revoked" in tirami(node, "key", "show").stdout
        assert node.stop() == 0
        node.start()
        assert asked(node, "key", "show")["ended"] is True


def token(node: NodeProcess) -> str:
    return (node.data_dir / "admin.token").read_text().strip()


def invited_address(node: NodeProcess, key: str) -> str:
    return f"{key}@{json.loads(tirami(node, 'invite', '--json').stdout)['addresses'][0]}"
