"""``tirami start`` and ``tirami node``: what they say, make and refuse."""

import json
import os
import socket
import time
from pathlib import Path

import httpx2
import pytest

from tests.cli.running import Foreground, Shell
from tirami.api.schemas import TokenRequest
from tirami.sdk import Tirami
from tirami.testing import RunningEngine


@pytest.fixture(scope="module")
def twice(
    engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shell, list[str], list[dict[str, object]]]:
    """A node started twice in a fresh home; what it printed, and its status."""
    shell = Shell(tmp_path_factory.mktemp("start"))
    printed, states = [], []
    for _ in range(2):
        with Foreground(shell, "start", "--port", "0", "--upstream", engine.url) as started:
            started.until("Press Ctrl-C")
            states.append(shell.run("status", "--json").json)
            assert started.end() == 0
            printed.append(started.out)
    return shell, printed, states


@pytest.mark.row("CLI-01")
def test_the_banner_has_the_facts_of_the_mission_page(
    twice: tuple[Shell, list[str], list[dict[str, object]]],
) -> None:
    shell, printed, _ = twice
    home = shell.home / ".tirami"
    for text in printed:
        assert "🌱 Tirami — GPU Airbnb × AI Agent Economy" in text
        assert text.count("═" * 62) == 2
        assert f"\n   Data dir:  {home}\n   Model:     " in text
        assert "\n   API:       http://127.0.0.1:" in text
        assert "\n✅ Model loaded: tirami-testing\n🟢 Tirami node is running. Press Ctrl-C to stop.\n" in text
        assert text.endswith("Tirami node stopped; everything is saved.\n")


@pytest.mark.row("CLI-01")
@pytest.mark.row("CLI-03")
def test_the_key_is_made_at_the_first_start_and_reused_at_the_second(
    twice: tuple[Shell, list[str], list[dict[str, object]]],
) -> None:
    shell, printed, states = twice
    key = shell.home / ".tirami" / "node.key"
    assert f"🔑 Generated new node key at {key}\n" in printed[0]
    assert "🔑" not in printed[1]
    assert states[0]["node_id"] == states[1]["node_id"] == shell.run("wallet", "identity", "--json").json["node_id"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert (key.parent / "admin.token").stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700


def test_a_stopped_node_is_no_running_one(twice: tuple[Shell, list[str], list[dict[str, object]]]) -> None:
    assert "(no_node)" in twice[0].run("status").err


@pytest.mark.row("CLI-01")
def test_without_a_model_everything_but_inference_works(nowhere: Shell) -> None:
    with Foreground(nowhere, "start", "--no-model", "--port", "0") as started:
        started.until("Press Ctrl-C")
        assert "   Model:     none\n" in started.out
        assert "Model loaded" not in started.out
        assert nowhere.run("status", "--json").json["model_loaded"] is False
        assert "no (" in nowhere.run("status").out
        assert nowhere.run("agent", "create", "x").code == 0
        refused = nowhere.run("chat", "hi", "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "no_model")
        assert started.end() == 0


def test_a_model_that_cannot_be_had_is_none(nowhere: Shell) -> None:
    with Foreground(nowhere, "start", "-m", str(nowhere.home / "no.gguf"), "--offline", "--port", "0") as started:
        started.until("Press Ctrl-C")
        assert "⚠  No model: " in started.out
        assert started.end() == 0


def test_one_json_object_for_a_program(nowhere: Shell, engine: RunningEngine) -> None:
    with Foreground(nowhere, "start", "--port", "0", "--upstream", engine.url, "--json") as started:
        started.until("\n")
        facts = json.loads(started.out)
        assert set(facts) == {"pid", "url", "node_id", "model", "problem", "mesh"}
        assert (facts["pid"], facts["model"], facts["problem"]) == (started.process.pid, "tirami-testing", None)
        assert nowhere.run("status", "--url", facts["url"], "--json").json["node_id"] == facts["node_id"]
        assert started.end() == 0
        json.loads(started.out)


def test_plain_node_writes_lines_and_takes_a_ledger(nowhere: Shell, engine: RunningEngine) -> None:
    ledger = nowhere.home / "books" / "tirami-ledger.json"
    with Foreground(nowhere, "node", "--port", "0", "--upstream", engine.url, "--ledger", str(ledger)) as started:
        started.until(" serves tirami-testing at http://127.0.0.1:")
        assert nowhere.run("status").code == 0
        assert started.end() == 0
        assert started.out.endswith("node stopped; everything is saved\n")
        assert "🌱" not in started.out
    assert not started.err.startswith("{"), "a log for people"
    assert {path.name for path in ledger.parent.iterdir()} == {
        "tirami-ledger.json",
        "tirami-ledger.snapshot",
        "tirami-ledger.tip",
    }
    assert not (nowhere.home / ".tirami" / "journal.db").exists()


def test_a_key_has_one_journal(nowhere: Shell) -> None:
    """A second, empty book under one key would say less than what the key signed before."""
    options = ("node", "--port", "0", "--no-model", "--ledger")
    with Foreground(nowhere, *options, str(nowhere.home / "first.db")) as started:
        started.until(" serves ")
        started.end()
    elsewhere = nowhere.process(*options, str(nowhere.home / "second.db"), "--json")
    assert (elsewhere.code, elsewhere.json["error"]["code"]) == (1, "journal_rollback")
    assert str(nowhere.home / "first.db") in elsewhere.json["error"]["message"]
    assert not (nowhere.home / "second.db").exists()
    (nowhere.home / "first.db").rename(nowhere.home / "moved.db")
    (nowhere.home / "first.tip").rename(nowhere.home / "moved.tip")
    with Foreground(nowhere, *options, str(nowhere.home / "moved.db")) as started:
        started.until(" serves ")
        started.end()
    for file in nowhere.home.glob("moved.*"):
        file.unlink()
    gone = nowhere.process(*options, str(nowhere.home / "moved.db"), "--json")
    assert gone.json["error"]["code"] == "journal_rollback", "journal and tip are gone together"


def test_plain_node_as_json(nowhere: Shell, engine: RunningEngine) -> None:
    with Foreground(nowhere, "node", "--port", "0", "--upstream", engine.url, "--json") as started:
        started.until("\n")
        assert json.loads(started.out)["model"] == "tirami-testing"
        assert started.end() == 0


def test_web_origins_from_flags(nowhere: Shell) -> None:
    page = "https://app.example"
    options = ("start", "--no-model", "--port", "0", "--cors-origin", page, "--cors-origin", "http://localhost:5173")
    with Foreground(nowhere, *options) as started:
        url = started.until_announced(nowhere.home / ".tirami")
        for origin, granted in ((page, page), ("https://evil.example", None)):
            reply = httpx2.get(f"{url}/health", headers={"origin": origin}, trust_env=False)
            assert reply.headers.get("access-control-allow-origin") == granted
        started.end()
    wrong = nowhere.run("start", "--cors-origin", "*", "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (1, "config")


def test_a_ledger_file_is_not_overwritten(nowhere: Shell) -> None:
    path = nowhere.home / "ledger"
    path.write_text("precious")
    ended = nowhere.run("node", "--ledger", str(path), "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "journal_corrupt")
    assert path.read_text() == "precious"
    assert not path.with_suffix(".tip").exists()


def refused(shell: Shell, *options: str, code: str, **environment: str) -> str:
    """Start must end with 1 and this code; its message."""
    ended = shell.process("start", "--port", "0", "--no-model", "--json", *options, **environment)
    assert ended.code == 1, ended.err
    assert ended.json["error"]["code"] == code
    assert "Traceback" not in ended.err
    assert f"({code})" in ended.err
    return str(ended.json["error"]["message"])


@pytest.mark.row("CLI-03")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_open_to_others_is_refused(nowhere: Shell, mode: int) -> None:
    nowhere.run("wallet", "identity")
    key = nowhere.home / ".tirami" / "node.key"
    key.chmod(mode)
    assert refused(nowhere, code="key_file") == f"{key} is open to others (mode {mode:04o}); make it 0600"
    assert not (key.parent / "node.json").exists()


def test_a_key_that_is_none_is_refused_and_kept(nowhere: Shell) -> None:
    key = nowhere.home / ".tirami" / "node.key"
    key.parent.mkdir()
    for content in (b"", b"x" * 31, b"x" * 33, b"zz" * 32, "ａ".encode() * 64, b"\0" * 70_000):
        key.write_bytes(content)
        key.chmod(0o600)
        ended = nowhere.run("start", "--port", "0", "--no-model", "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "key_file")
        assert str(key) in ended.json["error"]["message"]
        assert key.read_bytes() == content
    key.unlink()
    key.mkdir()
    assert str(key) in refused(nowhere, code="key_file")
    key.rmdir()
    key.symlink_to("/nowhere/at/all")
    assert str(key) in refused(nowhere, code="key_file")
    key.unlink()
    os.mkfifo(key, 0o600)
    assert str(key) in refused(nowhere, code="key_file")


def test_a_taken_port_is_named(nowhere: Shell) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = refused(nowhere, "--port", str(port), code="port_taken")
    assert f"127.0.0.1:{port}" in message and "--port" in message
    assert not (nowhere.home / ".tirami" / "node.json").exists()


def test_a_locked_directory_is_refused_naming_the_process(nowhere: Shell) -> None:
    with Foreground(nowhere, "start", "--no-model", "--port", "0") as started:
        url = started.until_announced(nowhere.home / ".tirami")
        message = refused(nowhere, code="data_dir_locked")
        assert str(started.process.pid) in message
        assert nowhere.run("status", "--url", url).code == 0, "the first goes on"
        assert started.end() == 0


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "203.0.113.10"])
def test_an_open_door_needs_a_token_first(nowhere: Shell, bind: str) -> None:
    message = refused(nowhere, "--bind", bind, code="public_bind_refused")
    assert "Start once without --bind" in message and "--ttl-days 0" in message and f"--bind {bind}" in message


def test_tokens_that_have_expired_do_not_keep_a_node_from_starting(nowhere: Shell) -> None:
    home, options = nowhere.home / ".tirami", ("start", "--no-model", "--port", "0")
    with Foreground(nowhere, *options) as started:
        url = started.until_announced(home)
        with Tirami(url, token=(home / "admin.token").read_text().strip()) as admin:
            issued = admin.issue_token(TokenRequest(scope="inference", ttl_secs=1))
        assert started.end() == 0
    time.sleep(max(0.0, issued.expires_at_ms / 1000 - time.time()))
    with Foreground(nowhere, *options, "--bind", "0.0.0.0") as started:
        started.until_announced(home)
        assert started.end() == 0
    assert "tokens_expired" in started.err


def test_a_setting_that_cannot_work_is_named(nowhere: Shell) -> None:
    ended = nowhere.process("start", "--p2p-bind", "nonsense", "--no-model")
    assert ended.code == 1 and ended.err.startswith("Error: mesh.bind: ")


def test_unknown_settings_are_refused_by_name(nowhere: Shell) -> None:
    file = nowhere.home / "tirami.toml"
    for text, key in (
        ("[api]\nprot = 3000\n", "api.prot"),
        ("[apii]\nport = 3000\n", "apii"),
        ("[api]\nport = '3000'\n", "api.port"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("api = 1\n", "api"),
        ("[api\n", str(file)),
    ):
        file.write_text(text)
        ended = nowhere.run("start", "--config", str(file), "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "config"), text
        assert key in ended.json["error"]["message"]
    assert str(nowhere.home / "no.toml") in refused(nowhere, "--config", str(nowhere.home / "no.toml"), code="config")


def test_unknown_settings_of_the_environment(nowhere: Shell) -> None:
    assert "api.prot" in refused(nowhere, code="config", TIRAMI_API_PROT="1")
    assert "api.port" in refused(nowhere, code="config", TIRAMI_API_PORT="many")
    ended = nowhere.run("start", "--log-level", "loud", "--json", TIRAMI_NOWHERE_AT_ALL="1", TIRAMI_URL="x")
    assert "log.level" in ended.json["error"]["message"], "other sections belong to other programs"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_file_then_environment_then_flags(nowhere: Shell) -> None:
    file = nowhere.home / "tirami.toml"
    by_file, by_environment = free_port(), free_port()
    file.write_text(f"[api]\nport = {by_file}\n[infer]\nmodel = ''\n[log]\nlevel = 'error'\n")
    with Foreground(nowhere, "start", "--config", str(file)) as started:
        assert started.until_announced(nowhere.home / ".tirami").endswith(f":{by_file}")
        assert started.end() == 0
    environment = {"TIRAMI_API_PORT": by_environment, "TIRAMI_LOG_LEVEL": " "}
    with Foreground(nowhere, "start", "--config", str(file), **environment) as started:
        assert started.until_announced(nowhere.home / ".tirami").endswith(f":{by_environment}")
        assert started.end() == 0
    with Foreground(nowhere, "start", "--config", str(file), "--port", "0", **environment) as started:
        assert started.until_announced(nowhere.home / ".tirami").rpartition(":")[2] not in (by_file, by_environment)
        assert started.end() == 0


def test_a_data_directory_that_cannot_be_made(nowhere: Shell, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert str(file) in refused(nowhere, "--data-dir", str(file), code="config")
    assert str(file) in refused(nowhere, "--data-dir", str(file / "below"), code="config")


def test_a_bad_network_file(nowhere: Shell) -> None:
    assert "network.json" in refused(nowhere, "--network", str(nowhere.home / "network.json"), code="network_file")
