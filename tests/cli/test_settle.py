"""``tirami settle``: a statement on paper, and its check by somebody who has nothing else."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.processes import NodeProcess
from tirami.verify import verify_statement


@pytest.fixture(scope="module")
def traded(node: NodeProcess) -> int:
    """TRM of an owner's answers."""
    shell = Shell(node.data_dir.parent)
    return sum(int(shell.run("chat", "hi", "-n", str(n), "--json").json["trm_cost"]) for n in (3, 4))


def test_json_to_standard_output_is_the_file_itself(shell: Shell, traded: int) -> None:
    ended = shell.run("settle", "--hours", "1", "--price", "0.5")
    assert (ended.code, ended.err) == (0, "")
    verified = verify_statement(ended.out.rstrip("\n").encode())
    assert verified.statement.volume >= traded > 0
    document = ended.json
    assert document["window_end"] - document["window_start"] == 3_600_000
    assert {row["estimated_payout_value"] for row in document["nodes"]} == {
        row["net_trm"] * 0.5 for row in document["nodes"]
    }


@pytest.mark.parametrize("table", [False, True])
def test_a_file_verifies_without_a_node_and_with_its_key(
    shell: Shell, nowhere: Shell, node: NodeProcess, tmp_path: Path, traded: int, table: bool
) -> None:
    file = tmp_path / "statement"
    ended = shell.run("settle", "--out", str(file), "--json", *(["--csv"] if table else []))
    assert (ended.code, ended.err) == (0, "")
    said = ended.json
    assert (said["file"], said["next_cursor"]) == (str(file), None)
    assert [path.name for path in tmp_path.iterdir()] == ["statement"], "nothing half-written is left"
    with node.client() as client:
        key = client.log_head().node
    checked = nowhere.run("settle", "--verify", str(file), "--trust", key, "--json")
    assert checked.code == 0
    assert (checked.json["merkle_root"], checked.json["trusted_keys"]) == (said["merkle_root"], "named")
    shown = nowhere.run("settle", "--verify", str(file))
    assert "Statement verified" in shown.out and "not whose node" in shown.out
    assert nowhere.run("settle", "--verify", str(file), "--trust", "ab" * 32).code == 3
    if table:
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        assert sum(int(row["trm_amount"]) for row in rows[:-1]) == said["volume_trm"]
        assert rows[-1]["id"] == "#statement"


def test_one_changed_character_is_found(shell: Shell, nowhere: Shell, tmp_path: Path, traded: int) -> None:
    file = tmp_path / "statement.json"
    assert shell.run("settle", "--out", str(file)).code == 0
    document = json.loads(file.read_bytes())
    changes = {"total_trm_transferred": 10**6, "merkle_root": "00" * 32, "trades": document["trades"][1:]}
    for name, value in changes.items():
        file.write_text(json.dumps({**document, name: value}))
        ended = nowhere.run("settle", "--verify", str(file), "--json")
        assert (ended.code, ended.json["error"]["code"]) == (3, "invalid_statement")


def test_wrong_wishes(shell: Shell, nowhere: Shell, tmp_path: Path) -> None:
    assert shell.run("settle", "--hours", "0").code == 2
    assert shell.run("settle", "--verify", str(tmp_path / "none")).code == 2
    assert shell.run("settle", "--csv", "--json").code == 1
    assert shell.run("settle", "--out", str(tmp_path / "no" / "dir")).code == 1
    assert nowhere.run("settle").code == 1
