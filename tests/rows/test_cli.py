"""The command line, from outside."""

import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.infer.hubs import Hub
from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.test_saf import chat
from tirami.api.schemas import AccountRequest
from tirami.core.keyfile import load_or_create_node_key
from tirami.infer import resolve
from tirami.sdk import Tirami
from tirami.sdk.client import DEFAULT_URL
from tirami.testing import RunningEngine

TIRAMI = [sys.executable, "-m", "tirami.cli"]


@pytest.mark.row("CLI-01")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_start_shows_its_facts_and_saves_when_told_to_stop(
    engine: RunningEngine, tmp_path: Path, number: signal.Signals
) -> None:
    home = tmp_path / "home"
    with NodeProcess(home, "--upstream", engine.url) as node:
        for fact in ("Generated new node key", str(home / "node.key"), "GPU Airbnb × AI Agent Economy", "Data dir:"):
            assert fact in node.log()
        for fact in (f"API:       {node.url}", "Model loaded: tirami-testing", "running. Press Ctrl-C to stop"):
            assert fact in node.log()
        agent = make_agent(node)
        agent.client.chat_completions(chat("x", 7))
        key = (home / "node.key").read_bytes()
        node.process.send_signal(number)
        assert node.process.wait(timeout=20) == 0
        assert "everything is saved" in node.log()
        before = len(node.log())
        node.start()
        assert (home / "node.key").read_bytes() == key
        assert "Generated" not in node.log()[before:]
        with node.client(agent.token) as client:
            assert client.balance().consumed > 0
        agent.client.close()


@pytest.mark.row("CLI-01")
def test_start_runs_without_a_model_too(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "home", "--no-model") as node, node.admin() as admin:
        assert admin.status().engine.model is None
        assert admin.network().sum_of_accounts == 0
        assert "Model:     none" in node.log()


@pytest.mark.row("CLI-02")
@pytest.mark.model
def test_without_a_word_the_default_model_is_fetched_and_served(tmp_path: Path) -> None:
    """The hub stands on this machine and gives the small model's weights under the default's name."""
    weights = resolve("smollm2:135m").path.read_bytes()
    name = "/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q4_k_m.gguf"
    with Hub(files={name: weights}) as hub:
        env = {"HF_ENDPOINT": hub.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        with NodeProcess(tmp_path / "home", env=env) as node, node.client() as client:
            assert "Model:     qwen2.5:0.5b" in node.log()
            assert "Model loaded: qwen2.5:0.5b" in node.log()
            assert [model.id for model in client.models().data] == ["qwen2.5:0.5b"]
        assert (tmp_path / "cache" / "tirami" / "models").is_dir()


@pytest.mark.row("CLI-02")
def test_without_a_word_the_api_is_on_port_3000_of_loopback(tmp_path: Path) -> None:
    """Where something else has the port already, the refusal names it."""
    env = {**os.environ, "HOME": str(tmp_path)}
    with subprocess.Popen(
        [*TIRAMI, "start", "--no-model"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True
    ) as started:
        assert started.stdout is not None
        shown = ""
        for line in started.stdout:
            shown += line
            if "running" in line:
                with Tirami(DEFAULT_URL) as client:
                    assert client.status().node_id
                started.terminate()
        ended = started.wait(timeout=20)
    assert "API:       http://127.0.0.1:3000" in shown
    assert DEFAULT_URL == "http://127.0.0.1:3000"
    with socket.socket() as probe:
        assert ended == 0 or probe.connect_ex(("127.0.0.1", 3000)) == 0, "refused only because the port is taken"


@pytest.mark.row("CLI-04")
@pytest.mark.parametrize("options", [("--no-model",), ("engine",), ("--no-model", "--ledger")])
def test_a_plain_node_has_a_real_identity_in_every_mode(
    engine: RunningEngine, tmp_path: Path, options: tuple[str, ...]
) -> None:
    home, ledger = tmp_path / "home", tmp_path / "tirami-ledger.json"
    given = ["--upstream", engine.url] if "engine" in options else ["--no-model"]
    if "--ledger" in options:
        given += ["--ledger", str(ledger)]
    with NodeProcess(home, *given, command="node") as node, node.admin() as admin:
        identity = admin.status().node_id
        key = load_or_create_node_key(home / "node.key")[0]
        assert identity == key.public_key.hex() != "00" * 32
        assert admin.log_head().node == identity, "and signs with it"
        assert f"node {identity} serves" in node.log()
        account = admin.create_account(AccountRequest(label="x")).account
        assert node.stop() == 0
    assert ledger.exists() is ("--ledger" in options)
    assert (home / "journal.db").exists() is ("--ledger" not in options)
    with NodeProcess(home, *given, command="node") as node, node.admin() as admin:
        assert admin.status().node_id == identity
        assert [entry.account for entry in admin.accounts().accounts] == [account]
        node.process.send_signal(signal.SIGHUP)
        assert node.process.wait(timeout=20) == 0
        assert "everything is saved" in node.log()


@pytest.mark.row("CLI-04")
@pytest.mark.model
def test_a_plain_node_serves_a_model(tmp_path: Path) -> None:
    weights = resolve("smollm2:135m").path
    with (
        NodeProcess(tmp_path / "home", "-m", str(weights), "--offline", command="node") as node,
        node.client() as client,
    ):
        answer = client.chat_completions(chat("What is gravity?", 8))
        assert answer.choices[0].message.content
        assert answer.x_tirami.trm_cost > 0


@pytest.mark.row("CLI-03")
def test_the_key_is_never_readable_by_others_not_even_while_it_is_made(tmp_path: Path) -> None:
    """Every file that appears is watched from before the start, under the most careless umask there is."""
    home = tmp_path / "home"
    modes: dict[str, set[int]] = {}
    home.mkdir()
    old = os.umask(0)
    try:
        starting = subprocess.Popen(
            [*TIRAMI, "start", "--no-model", "--port", "0", "--data-dir", str(home)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not (home / "node.json").exists() and time.monotonic() < deadline:
            for path in home.iterdir():
                with suppress(FileNotFoundError):
                    if "key" in path.name or "token" in path.name:
                        mode = stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)
                        modes.setdefault(path.name, set()).add(mode)
        starting.terminate()
        assert starting.wait(timeout=20) == 0
    finally:
        os.umask(old)
    assert "node.key" in modes and "admin.token" in modes
    assert all(seen == {0o600} for seen in modes.values()), modes
    for mode in (0o640, 0o604, 0o666):
        (home / "node.key").chmod(mode)
        refused = subprocess.run(
            [*TIRAMI, "start", "--no-model", "--data-dir", str(home)], capture_output=True, text=True
        )
        assert refused.returncode == 1
        assert str(home / "node.key") in refused.stderr and "0600" in refused.stderr


@pytest.mark.row("CLI-05")
@pytest.mark.model
def test_chat_streams_to_a_terminal_and_speaks_json(model_node: NodeProcess, tmp_path: Path) -> None:
    env = {**os.environ, "TIRAMI_URL": model_node.url, "HOME": str(tmp_path)}
    master, slave = pty.openpty()
    command = [*TIRAMI, "chat", "-m", "smollm2:135m", "What is gravity?", "--max-tokens", "48"]
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=env) as asked:
        os.close(slave)
        first, shown, ended = 0.0, b"", 0.0
        while asked.poll() is None or select.select([master], [], [], 0.1)[0]:
            if not select.select([master], [], [], 0.05)[0]:
                continue
            try:
                shown += os.read(master, 4096)
            except OSError:
                break
            ended = time.monotonic()
            first = first or ended
    os.close(master)
    assert asked.returncode == 0
    assert ended - first > 0.1, "the first words stood there before the last ones were made"
    assert b"TRM" in shown
    answered = subprocess.run([*command, "--json"], capture_output=True, text=True, env=env, check=True)
    facts = json.loads(answered.stdout)
    assert facts["model"] == "smollm2:135m"
    assert 0 < facts["completion_tokens"] <= 48
    assert facts["trm_cost"] > 0 and facts["text"]


@pytest.mark.row("CLI-05")
def test_chat_holds_a_conversation_until_its_input_ends(node: NodeProcess, tmp_path: Path) -> None:
    env = {**os.environ, "TIRAMI_URL": node.url, "HOME": str(tmp_path)}
    said = subprocess.run(
        [*TIRAMI, "chat", "--max-tokens", "5"], input="hello\nand again\n", capture_output=True, text=True, env=env
    )
    assert said.returncode == 0
    assert said.stderr.count("TRM") == 2
