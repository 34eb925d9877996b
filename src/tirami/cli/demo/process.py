"""A real node process for the demo: started like anybody would, watched, stopped by SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tirami.cli.demo.report import DemoFailed
from tirami.cli.target import Announcement, running_node

START_SECONDS = 150.0
STOP_SECONDS = 20.0
FAVOURITE_PORT = 3001


def tirami_command(*arguments: str) -> list[str]:
    """This very program as a command line."""
    return [sys.executable, "-m", "tirami.cli", *arguments]


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without anything that configures Tirami, at home in ``home``.

    Caches of models stay where they are.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIRAMI_")}
    caches = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")}
    return kept | caches | {"HOME": str(home)}


def free_udp_port() -> int:
    """One of the loopback interface that nobody had a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def favourite_or_free_port() -> int:
    """3001 when nobody listens there, else any free port of the loopback interface."""
    for port in (FAVOURITE_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("no port of the loopback interface is free")


class NodeProcess:
    """``tirami start`` in a child process; its output goes to ``node.log`` in the data directory."""

    def __init__(
        self,
        data_dir: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        program: Sequence[str] = ("tirami.cli", "start"),
    ) -> None:
        """``program``: the module that runs the node, and what it is told first."""
        self.data_dir = data_dir
        self.log = data_dir / "node.log"
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *program, "--data-dir", str(data_dir), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
            )

    def wait_until_serving(self) -> Announcement:
        """Where it listens. Raises ``DemoFailed`` with the end of its log when it does not come up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            announced = running_node(self.data_dir)
            if announced is not None and announced.pid == self._process.pid:
                return announced
            if self._process.poll() is not None:
                raise DemoFailed(f"the node ended with exit code {self._process.returncode}: {self._last_words()}")
            time.sleep(0.05)
        raise DemoFailed(f"the node did not serve within {START_SECONDS:.0f} s: {self._last_words()}")

    def stop(self) -> int:
        """Ask it to stop with SIGTERM; its exit code. Ends it by force after 20 s."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise DemoFailed(f"the node did not stop within {STOP_SECONDS:.0f} s of SIGTERM") from None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
