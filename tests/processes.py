"""Real processes for black-box tests: a node started by the command line, killed or stopped like any program."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tirami.infer import resolve
from tirami.sdk import Tirami

START_S = 60
SMALL = "smollm2:135m"


class NodeProcess:
    """``tirami start`` (or ``node``) in a process of its own; its log goes to ``node.log`` in the data directory."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        env: dict[str, str] | None = None,
        command: str = "start",
        program: str = "tirami.cli",
    ) -> None:
        """``program``: the module to run, with words before the command, for one with something of it replaced."""
        self.data_dir = data_dir
        self.command = command
        self.program = program
        self.options = options
        self.modelless = command == "worker" or "--no-model" in options
        """Whether it serves without a model of its own."""
        self._env = {**os.environ, "HOME": str(data_dir.parent), **(env or {})}
        if SMALL in options and not {"XDG_CACHE_HOME", "TIRAMI_INFER_MODELS_DIR"} & set(env or {}):
            _put_at_hand(data_dir.parent)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, within: float = START_S) -> Self:
        """Wait until it serves. Raises ``AssertionError`` with the end of its log when it does not."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "node.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", *self.program.split(), self.command, "--data-dir", str(self.data_dir)]
        with (self.data_dir / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", "0", *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )
        self.url = self._announced(within)
        return self

    def _announced(self, within: float) -> str:
        deadline = time.monotonic() + within
        found = self.data_dir / "node.json"
        self._wait(found.exists, deadline)
        self.url = str(json.loads(found.read_bytes())["url"])
        with Tirami(self.url) as client:  # one, not one a try: making it takes longer than what is asked
            self._wait(lambda: self.modelless or client.health().model_loaded, deadline, pause_s=0.1)
        with self.admin() as admin:
            self._wait(lambda: not admin.mesh().starting, deadline)
        return self.url

    def _wait(self, ready: Callable[[], bool], deadline: float, pause_s: float = 0.02) -> None:
        while not ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the node was not ready in time:\n{self.log()[-3000:]}")
            time.sleep(pause_s)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def log(self) -> str:
        return (self.data_dir / "node.log").read_text(errors="replace")

    def client(self, token: str | None = None) -> Tirami:
        return Tirami(self.url, token=token)

    def admin(self) -> Tirami:
        return Tirami(self.url, token=(self.data_dir / "admin.token").read_text().strip())

    def kill(self) -> None:
        """As if the machine had lost its power for this process."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask politely; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()


def _put_at_hand(home: Path) -> None:
    """The small model lies in the cache of ``home``: fetching it takes longer than all else of a start."""
    model = resolve(SMALL).path
    link = home / ".cache" / "tirami" / "models" / model.name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(model)
