"""``tirami status`` against a running node."""

from tests.cli.running import Shell


def test_status_for_people(shell: Shell) -> None:
    shell.run("chat", "hi", "-n", "3")
    ended = shell.run("status")
    assert (ended.code, ended.err) == (0, "")
    lines = {line.split(":")[0].strip(): line for line in ended.out.splitlines()}
    assert "tirami-testing" in lines["Model loaded"]
    assert "v1" in lines["Protocol"]
    assert "sum 0" in lines["Book"]
    assert "TRM a token, demand 1.00, supply 1.00" in lines["Price"]
    assert "writable" in lines["Storage"]
    assert "local" in ended.out.rpartition("Recent trades:")[2]


def test_status_for_programs(shell: Shell) -> None:
    ended = shell.run("status", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["model_loaded"] is True
    assert ended.json["network"]["sum_of_accounts"] == 0


def test_status_as_a_process(shell: Shell) -> None:
    ended = shell.process("status", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["status"] == "ok"
