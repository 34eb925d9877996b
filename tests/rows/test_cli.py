"""The command line, from outside."""

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.test_saf import chat
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
                        modes.setdefault(path.name, set()).add(stat.S_IMODE(path.stat(follow_symlinks=False).st_mode))
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
