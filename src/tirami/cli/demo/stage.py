"""What the steps of the demo share: the node process, the clients, the agent and what was seen so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openai

from tirami.cli.demo.process import NodeProcess
from tirami.cli.demo.report import Report, expect
from tirami.core.secretfile import read_secret
from tirami.sdk import Tirami


@dataclass(slots=True)
class Seen:
    """Facts that later steps compare with."""

    model: str = ""
    agent: str = ""
    token: str = ""
    trade_id: str = ""
    cost: int = 0
    balance: int = 0
    head_size: int = 0
    head_root: str = ""
    node_id: str = ""


@dataclass(slots=True)
class Stage:
    """A running node and everything around it. ``scratch`` is a folder for files."""

    home: Path
    scratch: Path
    options: Sequence[str]
    environment: Mapping[str, str]
    report: Report
    seen: Seen = field(default_factory=Seen)
    url: str = ""
    _process: NodeProcess | None = None
    _clients: list[Tirami] = field(default_factory=list)

    @property
    def process(self) -> NodeProcess:
        assert self._process is not None
        return self._process

    def open(self) -> None:
        """Start the node; on later calls, start it again on the same directory."""
        self._process = NodeProcess(self.home, self.options, self.environment)
        self.url = self.process.wait_until_serving().url

    def client(self, token: str | None = None) -> Tirami:
        made = Tirami(self.url, token=token)
        self._clients.append(made)
        return made

    def admin(self) -> Tirami:
        return self.client(read_secret(self.home / "admin.token").decode().strip())

    def openai(self, token: str = "local") -> openai.OpenAI:
        """The official client, pointed at the node."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=token, max_retries=0)

    def restart(self) -> None:
        code = self.process.stop()
        expect(code == 0, "SIGTERM saves and ends with exit code 0", code=code)
        self.open()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self._process is not None:
            self._process.stop()
