"""``tirami top``: one frame, many frames, a live screen; through outages."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.running import Foreground, Shell
from tests.processes import NodeProcess
from tirami.api.schemas import ChatCompletionRequest, KillRequest
from tirami.cli.screen import drawn
from tirami.cli.top import Watch
from tirami.core.errors import TiramiError
from tirami.testing import RunningEngine


@pytest.fixture
def own_node(engine: RunningEngine, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that a test may stop."""
    env = {"TIRAMI_API_RATE_PER_SECOND": "100000"}
    with NodeProcess(tmp_path / ".tirami", "--upstream", engine.url, env=env) as running:
        yield running


def test_one_frame_for_people(shell: Shell) -> None:
    token = shell.run("agent", "create", "top", "--json").json["token"]
    shell.run("chat", "hi", "-n", "6", "--token", token)
    ended = shell.run("top", "--once")
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "tirami-testing" in rows["Model"]
    assert "0 running on 8 slots, 0 waiting" in rows["Streams"]
    earned = int(rows["Earned"].split()[1])
    assert earned >= 6
    assert f"{earned} TRM today" in rows["Earned"]
    assert "all clear" in rows["Safety"]
    assert "1 + 6" in ended.out
    assert "TRM a token × 1.00 demand" in rows["Price"]


def test_one_frame_for_programs(shell: Shell) -> None:
    frame = shell.run("top", "--once", "--json").json
    assert frame["problem"] is None
    assert frame["safety"]["kill_switch_active"] is False
    assert frame["activity"]["answers_running"] == 0
    assert frame["activity"]["earned_total_trm"] >= frame["activity"]["earned_today_trm"]


def test_an_agent_sees_no_earnings_of_the_node(shell: Shell) -> None:
    token = shell.run("agent", "create", "spy", "--json").json["token"]
    ended = shell.run("top", "--once", "--token", token)
    assert ended.code == 0
    assert "Earned" not in ended.out
    assert shell.run("top", "--once", "--json", "--token", token).json["activity"]["earned_total_trm"] is None


def test_a_thrown_switch_is_an_alarm(own_node: NodeProcess) -> None:
    with own_node.admin() as admin:
        admin.kill(KillRequest(activate=True, reason="[bold]drill[/]", operator="x"))
    ended = Shell(own_node.data_dir.parent).run("top", "--once")
    assert "KILL SWITCH ACTIVE: [bold]drill[/]" in ended.out


def test_speed_is_what_was_made_between_two_looks(own_node: NodeProcess) -> None:
    watch = Watch(own_node.url, (own_node.data_dir / "admin.token").read_text(), None)
    with own_node.client() as client:
        assert watch.look().rate is None
        before = time.monotonic()
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 60}
        client.chat_completions(ChatCompletionRequest.model_validate(body))
        rate = watch.look().rate
        assert rate is not None
        assert 60 / (time.monotonic() - before + 0.5) < rate
        assert watch.look().rate == 0
    watch.close()


def test_streams_show_while_they_run(own_node: NodeProcess) -> None:
    shell = Shell(own_node.data_dir.parent)
    with Foreground(Shell(shell.home / "chat"), "chat", "[[delay_ms=30]] x", "-n", "200", "--url", own_node.url):
        deadline, frame = time.monotonic() + 20, shell.run("top", "--once", "--json").json
        while not frame["activity"]["answers_running"]:
            assert time.monotonic() < deadline
            frame = shell.run("top", "--once", "--json").json
        first = frame["activity"]["tokens_total"]
        time.sleep(0.3)
        assert shell.run("top", "--once", "--json").json["activity"]["tokens_total"] > first


def test_a_pipe_gets_frame_after_frame_through_an_outage(own_node: NodeProcess) -> None:
    home = own_node.data_dir.parent
    with Foreground(Shell(home), "top", "--every", "0.1", "--json") as watching:
        watching.until('"problem": null')
        own_node.kill()
        watching.until('"problem": "')
        own_node.start()
        frames = len(watching.out)
        deadline = time.monotonic() + 20
        while '"problem": null' not in watching.out[frames:]:
            assert time.monotonic() < deadline, "the node is found again, on whatever port"
            time.sleep(0.05)
        assert watching.end() == 0
    frames_seen = [json.loads(line) for line in watching.out.splitlines()]
    assert all("problem" in frame for frame in frames_seen)
    assert watching.err == ""


def test_a_reader_that_has_enough_is_no_error(own_node: NodeProcess) -> None:
    home = own_node.data_dir.parent
    command = f"{sys.executable} -m tirami.cli top --every 0.1 | head -n 3"
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**Shell(home).environment, "COLUMNS": "100"},
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 3


class Screen:
    """``tirami top`` on a terminal."""

    def __init__(self, home: Path, *arguments: str, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        env = {**Shell(home).environment, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
        command = [sys.executable, "-m", "tirami.cli", "top", "--every", "0.2", *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str, within: float = 20) -> None:
        """Raises ``AssertionError`` when it is not drawn anew."""
        deadline, begin = time.monotonic() + within, len(self.shown)
        while text not in self.shown[begin:]:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown[-2000:]!r}"
            self.read(0.1)

    def read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.shown += os.read(self.master, 65_536).decode(errors="replace")
            except OSError:
                return

    def end(self) -> int:
        deadline = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self.read(0.05)
        self.read(0.2)
        return self.process.wait()


@contextmanager
def on_screen(home: Path, *arguments: str, columns: int = 100) -> Iterator[Screen]:
    screen = Screen(home, *arguments, columns=columns)
    try:
        yield screen
    finally:
        if screen.process.poll() is None:
            screen.process.kill()
            screen.process.wait()
        os.close(screen.master)


ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"


@pytest.mark.parametrize("key", ["q", "Q", "\x03", "\x04"])
def test_a_key_ends_it_and_the_terminal_is_as_before(node: NodeProcess, key: str) -> None:
    with on_screen(node.data_dir.parent) as screen:
        screen.until("all clear")
        os.write(screen.master, b"x")
        screen.until("all clear")
        os.write(screen.master, key.encode())
        if key == "\x03":
            os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 0
        assert screen.shown.index(ALTERNATE) < screen.shown.rindex(NORMAL)


def test_sigterm_leaves_the_terminal_as_before(node: NodeProcess) -> None:
    with on_screen(node.data_dir.parent) as screen:
        screen.until("all clear")
        screen.process.terminate()
        assert screen.end() == 0
        assert NORMAL in screen.shown


def test_the_screen_stays_while_the_node_is_away(own_node: NodeProcess) -> None:
    with on_screen(own_node.data_dir.parent) as screen:
        screen.until("all clear")
        own_node.kill()
        screen.until("trying again")
        own_node.start()
        screen.until("all clear")
        os.write(screen.master, b"q")
        assert screen.end() == 0


def test_without_a_node_the_screen_waits_for_one(tmp_path: Path) -> None:
    with on_screen(tmp_path) as screen:
        screen.until("no node is running")
        os.write(screen.master, b"q")
        assert screen.end() == 0


@pytest.mark.parametrize("columns", [10, 20, 40, 80, 300])
def test_any_width_will_do(shell: Shell, node: NodeProcess, columns: int) -> None:
    watch = Watch(node.url, (node.data_dir / "admin.token").read_text(), None)
    look = watch.look()
    watch.close()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, width=columns, height=5, force_terminal=True)
        console.print(drawn(look.status, look.safety, 5.0, problem="[/x] gone", hint="q"))
        console.print(drawn(None, None, None, problem="gone"))


def test_a_wrong_token_is_said(node: NodeProcess) -> None:
    watch = Watch(node.url, "wrong", None)
    with pytest.raises(TiramiError, match="unknown or expired"):
        watch.look()
