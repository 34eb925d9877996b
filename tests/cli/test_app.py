"""What all commands have in common: how they end, and where they say so."""

from pathlib import Path

import pytest

from tests.cli.running import Shell

NEED_A_NODE = [
    ("status",),
    ("agent", "create", "x"),
    ("agent", "list"),
    ("agent", "status"),
    ("agent", "summary"),
    ("agent", "task", "x"),
    ("agent", "preferences", "--daily", "5"),
    ("agent", "fund", "ab", "5"),
    ("agent", "disable", "ab"),
    ("token", "issue"),
    ("token", "list"),
    ("token", "revoke", "ab" * 32),
    ("token", "rotate", "ab" * 32),
    ("safety", "show"),
    ("safety", "kill"),
    ("safety", "release"),
    ("safety", "policy", "ab" * 32),
    ("metrics",),
    ("top", "--once"),
    ("log", "head"),
    ("log", "verify"),
    ("log", "tail"),
    ("models", "load", "smollm2:135m"),
    ("key", "show"),
    ("key", "rotate", "--yes"),
    ("key", "rotate", "elsewhere", "--yes"),
    ("key", "revoke", "ab" * 32, "--yes"),
    ("invite",),
    ("invite", "list"),
    ("invite", "revoke", "ab"),
    ("peers",),
    ("mesh", "status"),
    ("pause",),
    ("resume",),
    ("earnings",),
    ("wallet", "balance"),
    ("trades",),
    ("receipt",),
    ("models", "unload", "smollm2:135m"),
]
WRONG_USAGE = [
    (),
    ("agent",),
    ("token",),
    ("safety",),
    ("wallet",),
    ("key",),
    ("invite", "revoke"),
    ("invite", "--json", "list"),
    ("key", "revoke"),
    ("log",),
    ("log", "consistency"),
    ("log", "consistency", "missing.json"),
    ("log", "tail", "-n", "0"),
    ("log", "verify", "-n", "101"),
    ("top", "--every", "0"),
    ("nonsense",),
    ("start", "--nonsense"),
    ("start", "--port", "65536"),
    ("start", "--port", "-1"),
    ("start", "--port", "eighty"),
    ("worker",),
    ("worker", "--seed"),
    ("seed", "--nonsense"),
    ("peers", "-n", "0"),
    ("network",),
    ("network", "init"),
    ("trades", "-n", "0"),
    ("mesh",),
    ("earnings", "--by", "week"),
    ("verify",),
    ("chat", "-n", "0", "hi"),
    ("chat", "-t", "3", "hi"),
    ("agent", "create"),
    ("agent", "task"),
    ("agent", "task", "x", "-n", "0"),
    ("agent", "preferences", "--min-reputation", "2"),
    ("agent", "create", "x", "--budget-hourly", "-1"),
    ("agent", "fund", "ab"),
    ("agent", "fund", "ab", "0"),
    ("token", "issue", "--ttl-days", "-1"),
    ("safety", "policy", "ab", "--per-hour", "many"),
    ("safety", "policy", "ab", "--per-hour", "²"),
    ("safety", "policy", "ab", "--per-hour", "9" * 5000),
    ("status", "--url"),
    ("models", "pull"),
    ("models", "rm"),
    ("models", "fetch"),
]


@pytest.mark.parametrize("arguments", NEED_A_NODE, ids=" ".join)
def test_without_a_node_a_command_says_so_and_how_to_go_on(nowhere: Shell, arguments: tuple[str, ...]) -> None:
    ended = nowhere.run(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "(no_node)" in ended.err
    assert f"no node is running in {nowhere.home}/.tirami: start one with `tirami start`" in ended.err
    as_json = nowhere.run(*arguments, "--json")
    assert as_json.code == 1
    assert as_json.json["error"]["code"] == "no_node"
    assert "(no_node)" in as_json.err


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=lambda value: " ".join(value)[:40] or "nothing")
def test_wrong_usage_is_2_and_explained_on_stderr(nowhere: Shell, arguments: tuple[str, ...]) -> None:
    ended = nowhere.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(("Usage: tirami", "Error: Option"))
    assert not (nowhere.home / ".tirami").exists()


def test_wrong_usage_as_a_process(nowhere: Shell) -> None:
    ended = nowhere.process("start", "--nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "--nonsense" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "command",
    [
        "start",
        "node",
        "chat",
        "agent",
        "wallet",
        "status",
        "token",
        "safety",
        "verify",
        "log",
        "top",
        "metrics",
        "models",
    ],
)
def test_help_is_for_everybody(nowhere: Shell, command: str) -> None:
    ended = nowhere.run(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: tirami {command}")


def test_version(nowhere: Shell) -> None:
    assert nowhere.run("version").out.startswith("tirami 0.")
    assert nowhere.run("--version").out == nowhere.run("version").out
    ended = nowhere.run("version", "--json")
    assert (ended.code, set(ended.json), ended.err) == (0, {"version"}, "")


def test_a_node_that_cannot_be_reached(nowhere: Shell) -> None:
    ended = nowhere.run("status", "--url", "http://127.0.0.1:1", "--json")
    assert ended.code == 1
    assert ended.json["error"]["code"] == "no_node"
    assert "cannot be reached" in ended.err


@pytest.mark.parametrize("url", ["http://[::1", "localhost:3000", "ftp://localhost", "http://localhost:port"])
def test_a_url_that_is_none(nowhere: Shell, url: str) -> None:
    ended = nowhere.run("status", "--url", url)
    assert (ended.code, ended.out) == (1, "")
    assert "is no URL of a node" in ended.err


@pytest.mark.parametrize("token", ["é", "a\nb", "\x7f"])
def test_a_token_that_is_none(nowhere: Shell, token: str) -> None:
    ended = nowhere.run("status", "--url", "http://127.0.0.1:1", "--token", token)
    assert (ended.code, ended.out) == (1, "")
    assert "characters that no token has" in ended.err


def test_an_error_of_the_node_keeps_its_code(shell: Shell) -> None:
    ended = shell.run("agent", "fund", "ab" * 32, "5", "--json")
    assert ended.code == 1
    assert ended.json["error"]["code"] == "account_not_found"
    assert "(account_not_found)" in ended.err


def test_a_value_the_node_would_refuse_is_refused_here(shell: Shell) -> None:
    ended = shell.run("safety", "kill", "--reason", "x" * 600)
    assert (ended.code, ended.out) == (1, "")
    assert "reason:" in ended.err
    assert "(invalid_field)" in ended.err


def test_a_damaged_announcement_is_no_node(nowhere: Shell) -> None:
    home = nowhere.home / ".tirami"
    home.mkdir()
    for text in ("", "{}", '{"pid": 0, "url": "http://x"}', '{"pid": 99999999999999999999, "url": "x"}', "\xff", "[]"):
        (home / "node.json").write_text(text, "latin-1")
        assert "(no_node)" in nowhere.run("status").err


def test_a_data_directory_of_the_environment_and_of_the_flag(nowhere: Shell, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert str(one) in nowhere.run("status", TIRAMI_DATA_DIR=str(one)).err
    ended = nowhere.run("status", "--data-dir", str(two), TIRAMI_DATA_DIR=str(one))
    assert str(two) in ended.err
    assert str(one) not in ended.err
