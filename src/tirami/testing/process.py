"""Runs the testing engine as a process."""

import json
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Self


class RunningEngine:
    """A testing engine that listens on loopback; ``url`` is its OpenAI base URL."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "tirami.testing.engine", "--port", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the testing engine did not start")
        self.port = int(json.loads(line)["port"])
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def busy(self) -> int:
        """Answers in progress."""
        return self._slots()["busy"]

    def asked(self) -> int:
        """Answers asked for so far."""
        return self._slots()["asked"]

    def _slots(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/slots", timeout=5) as reply:
            return dict(json.load(reply))

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Close its standard input, which ends it."""
        self._end()

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_engine(port: int = 0) -> RunningEngine:
    """Start one and wait until it listens. The caller stops it."""
    return RunningEngine(port)


class EngineProcess:
    """The same as a context manager that can be restarted on its port."""

    def __init__(self) -> None:
        self._running: RunningEngine | None = None

    @property
    def running(self) -> RunningEngine:
        assert self._running is not None
        return self._running

    @property
    def url(self) -> str:
        return self.running.url

    def busy(self) -> int:
        return self.running.busy()

    def kill(self) -> None:
        self.running.kill()

    def restart(self) -> None:
        port = self.running.port
        if self.running.alive:
            self.running.stop()
        self._running = RunningEngine(port)

    def __enter__(self) -> Self:
        self._running = RunningEngine()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running.alive:
            self.running.stop()
