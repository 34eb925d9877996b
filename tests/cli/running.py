"""The command line, run in this process where that is enough and as a real process where it is not."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

from tirami.cli import main
from tirami.cli.target import running_node

PATIENCE_S = 30.0
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "COVERAGE_PROCESS_START", "PYTHONPATH")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


def clean_environment(home: Path, **values: str) -> dict[str, str]:
    """Nothing of the developer's own settings; at home in ``home``."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "HOME": str(home), "USER": "tester", "COLUMNS": "80", **values}


class Shell:
    """A place to type commands: a home and an environment."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = clean_environment(home, **environment)

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        """Run a command inside this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True),
            mock.patch("sys.stdin", io.StringIO(stdin)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main(arguments)
                code: object = 0
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return Outcome(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        """Run a command as a process of its own."""
        ended = subprocess.run(
            [sys.executable, "-m", "tirami.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**self.environment, **environment},
            cwd=self.home,
            check=False,
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)


class Foreground:
    """A command that runs until it is told to stop, watched through what it prints."""

    def __init__(self, shell: Shell, *arguments: str, **environment: str) -> None:
        shell.home.mkdir(parents=True, exist_ok=True)
        self._out, self._err = shell.home / "out.txt", shell.home / "err.txt"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tirami.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**shell.environment, **environment},
                cwd=shell.home,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, text: str) -> Self:
        """Wait until it has printed ``text``."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.out:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.err[-2000:]}"
            assert time.monotonic() < deadline, f"{text!r} was not printed: {self.out[-500:]} {self.err[-2000:]}"
            time.sleep(0.01)
        return self

    def until_announced(self, data_dir: Path) -> str:
        """Wait until it listens; the URL."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := running_node(data_dir)) is None or found.pid != self.process.pid:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.err[-2000:]}"
            assert time.monotonic() < deadline, self.err[-2000:]
            time.sleep(0.01)
        return found.url

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
