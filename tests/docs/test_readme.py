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
from tirami.infer.models import default_models_dir
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
    """On one machine; see :func:`machines` for the others."""
    apart = machines()
    typed = [commands(kind, content) for kind, content in blocks()]
    return [command for block in typed if block not in apart for command in block]


def machines() -> list[list[str]]:
    """What is typed on the first and the second machine of a mesh."""
    typed = [commands(kind, content) for kind, content in blocks()]
    return [block for block in typed if block[0].startswith(("tirami seed", "tirami worker"))]


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

    def __init__(self, home: Path, engine: str = "") -> None:
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


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    engine = start_engine()
    yield Reader(tmp_path, engine.url)
    engine.stop()


@pytest.mark.row("DEMO-08", part="the README")
@pytest.mark.timeout(300)
def test_every_command_of_the_readme_works(reader: Reader) -> None:
    typed = [command for command in everything() if command not in MAKE]
    assert [command.split()[:2] for command in typed].count(["tirami", "start"]) == 1
    assert typed[0].startswith("tirami start"), "a node runs before anybody talks to it"
    node = reader.start(typed[0])
    try:
        for command in typed[1:]:
            code, output = reader.type(command)
            assert code == 0, f"{command}\n{output}"
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
    assert {"curl", "tirami"} == {command.split()[0] for command in typed}


@pytest.mark.model
def test_two_machines_trade_as_the_readme_says(tmp_path: Path) -> None:
    """The second has no model, no network file and no money before it comes."""
    (seed, invite), (join,) = machines()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Reader(tmp_path / "one"), Reader(tmp_path / "two")
    for reader in (one, two):
        reader.environment |= {"TIRAMI_MESH_LAN": "false", "TIRAMI_MESH_BIND": "127.0.0.1:0"}
    one.environment |= {"TIRAMI_INFER_MODELS_DIR": str(default_models_dir()), "TIRAMI_INFER_THREADS": "1"}
    seller = one.start(seed)
    try:
        code, token = one.type(f"{invite} 2> said")
        assert code == 0, token
        assert "TOKEN" in join and token.strip().startswith("tirami1.")
        bought = subprocess.run(
            shlex.split(join.replace("TOKEN", token.strip())),
            env=two.environment,
            cwd=two.home,
            input="Say hello.\nquit\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert bought.returncode == 0, bought.stderr
        assert "tokens in" in bought.stderr and "Error" not in bought.stderr, bought.stderr
        later = subprocess.run(
            ["tirami", "worker"],
            env=two.environment,
            cwd=two.home,
            input="Again.\nquit\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "tokens in" in later.stderr and "Error" not in later.stderr, later.stderr
        code, earned = one.type("tirami wallet balance --json")
        assert code == 0 and json.loads(earned)["contributed"] > 0
    finally:
        seller.send_signal(signal.SIGTERM)
        assert seller.wait(20) == 0


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
