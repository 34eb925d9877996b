"""Every command of the README runs as it is printed, in one home, one after the other."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx2
import pytest
import typer

from tirami.cli.app import app
from tirami.cli.target import running_node
from tirami.testing import start_engine

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = "python"
NEW_HOME = {"PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH"}
MAKE = ["make demo", "make test"]


def blocks() -> list[tuple[str, str]]:
    """Language and content of every fenced block of commands, in order."""
    return [(found[1], found[2]) for found in BLOCK.finditer(README.read_text()) if found[1] != PYTHON]


def programs() -> list[str]:
    return [found[2] for found in BLOCK.finditer(README.read_text()) if found[1] == PYTHON]


def commands(kind: str, content: str) -> list[str]:
    """The commands of a block: every line of ``sh``, lines behind ``$`` of ``console``."""
    lines = [line for line in content.splitlines() if line.strip()]
    if kind == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [" ".join(shlex.split(line, comments=True)) for line in lines]


def everything() -> list[str]:
    return [command for kind, content in blocks() for command in commands(kind, content)]


@pytest.mark.row("DEMO-08", part="the README")
def test_the_first_block_is_the_two_commands_and_nothing_else() -> None:
    kind, content = blocks()[0]
    assert kind == "sh"
    assert commands(kind, content) == MAKE


def test_only_shells_and_a_program_are_quoted() -> None:
    assert {kind for kind, _ in blocks()} == {"sh", "console"}
    assert len(programs()) == 1
    assert all(
        line.startswith("$ ") for kind, content in blocks() if kind == "console" for line in content.splitlines()
    )


def test_every_command_but_completion_takes_json() -> None:
    def without(command: click.Command, path: str) -> list[str]:
        if isinstance(below := getattr(command, "commands", None), dict):
            return [name for word, inner in below.items() for name in without(inner, f"{path} {word}")]
        return [] if any("--json" in option.opts for option in command.params) else [path.strip()]

    assert without(typer.main.get_command(app), "") == ["completion"]


class Reader:
    """Somebody who types the README into a shell, with the testing engine for a model and a port of their own."""

    def __init__(self, home: Path, engine: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (home / "bin").mkdir()
        program = home / "bin" / "tirami"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tirami.cli "$@"\n')
        program.chmod(0o755)
        self.home = home
        kept = {name: os.environ[name] for name in NEW_HOME if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(home),
            "PATH": f"{program.parent}:{kept['PATH']}",
            "TIRAMI_API_PORT": str(self.port),
            "TIRAMI_INFER_UPSTREAM_URL": engine,
        }

    def own(self, command: str) -> str:
        return command.replace("localhost:3000", f"localhost:{self.port}")

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """Run a command that stays, until the node it starts has its model."""
        arguments = shlex.split(command)
        process = subprocess.Popen(arguments, env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            announced = running_node(self.home / ".tirami")
            if announced and httpx2.get(f"{announced.url}/health").json()["model_loaded"]:
                return process
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise AssertionError(f"{command} did not serve")

    def type(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command; ``curl`` is spoken by this process where it is not installed."""
        if command.startswith("curl ") and shutil.which("curl") is None:
            return self._request(command)
        ended = subprocess.run(
            ["sh", "-c", self.own(command)],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.returncode, ended.stdout

    def run_program(self, program: str) -> tuple[int, str]:
        """Exit code and output of a Python program that speaks to the node at its usual place."""
        environment = {**self.environment, "TIRAMI_URL": f"http://localhost:{self.port}"}
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stdout + ended.stderr

    def _request(self, command: str) -> tuple[int, str]:
        _, _, url, _, body = shlex.split(self.own(command))
        reply = httpx2.post(f"http://{url}", content=body.encode())
        return (0 if reply.status_code == 200 else 22), reply.text

    def fetch_receipt(self, answer: str) -> None:
        trade = json.loads(answer)["x_tirami"]["trade_id"]
        receipt = httpx2.get(f"http://localhost:{self.port}/v1/tirami/trades/{trade}/receipt")
        (self.home / "receipt.json").write_bytes(receipt.raise_for_status().content)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    engine = start_engine()
    yield Reader(tmp_path, engine.url)
    engine.stop()


@pytest.mark.row("DEMO-08", part="the README")
def test_every_command_of_the_readme_works(reader: Reader) -> None:
    typed = [command for command in everything() if command not in MAKE]
    assert [command.split()[:2] for command in typed].count(["tirami", "start"]) == 1
    assert typed[0].startswith("tirami start"), "a node runs before anybody talks to it"
    node = reader.start(typed[0])
    try:
        for command in typed[1:]:
            code, output = reader.type(command)
            assert code == 0, f"{command}\n{output}"
            if command.startswith("curl ") and "/chat/completions" in command:
                reader.fetch_receipt(output)
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
    assert {"curl", "tirami"} == {command.split()[0] for command in typed}


def test_a_request_without_curl_is_the_same_request(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    typed = everything()
    node = reader.start(next(command for command in typed if command.startswith("tirami start")))
    try:
        for command in (command for command in typed if command.startswith("curl ")):
            code, output = reader.type(command)
            assert code == 0, output
            assert json.loads(output)["x_tirami"]["trm_cost"] > 0
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0


def test_the_program_of_the_readme_prints_an_answer_and_its_cost(reader: Reader) -> None:
    (program,) = programs()
    node = reader.start(next(command for command in everything() if command.startswith("tirami start")))
    try:
        code, output = reader.run_program(program)
        assert code == 0, output
        answer, cost = output.strip().rsplit(" ", 1)
        assert answer and int(cost) > 0
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
