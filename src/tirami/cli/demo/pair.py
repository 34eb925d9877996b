"""What the steps of the demo between nodes share: a provider, a consumer without a model, later a cheat."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tirami.api.schemas import BalanceQuery, ChatCompletionRequest, StateReply
from tirami.cli.demo.process import NodeProcess, free_udp_port
from tirami.cli.demo.report import Report, expect
from tirami.core.errors import TiramiError
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey
from tirami.core.secretfile import read_secret
from tirami.sdk import Tirami

HONEST = ("tirami.cli", "start")
MEETING_S = 30.0
"""Seconds until two nodes on one machine must have heard of each other."""
WINDOW = 16
"""K of the demo's network, tokens and TRM: how far an answer runs ahead of what is signed (B11)."""


@dataclass(slots=True)
class Member:
    """One node of the demo's network: its key and where it will listen are known before it first starts.

    ``settings`` go into its environment, ``TIRAMI_`` left out.
    """

    home: Path
    settings: Mapping[str, str]
    base: Mapping[str, str]
    program: Sequence[str] = HONEST
    options: Sequence[str] = ()
    port: int = field(default_factory=free_udp_port)
    url: str = ""
    _process: NodeProcess | None = None
    _client: Tirami | None = None

    @property
    def key(self) -> PublicKey:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return load_or_create_node_key(self.home / "node.key")[0].public_key

    @property
    def address(self) -> str:
        return f"{self.key.hex()}@127.0.0.1:{self.port}"

    def start(self, **changed: str) -> None:
        """Start it, or start it again on its directory; ``changed`` settings stay."""
        self.settings = {**self.settings, **changed}
        named = {
            "API_PORT": "0",
            "LOG_LEVEL": "warning",
            "MESH_ENABLED": "true",
            "MESH_LAN": "false",
            "MESH_BIND": f"127.0.0.1:{self.port}",
            **self.settings,
        }
        environment = {**self.base, **{f"TIRAMI_{name}": value for name, value in named.items()}}
        self._process = NodeProcess(self.home, self.options, environment, self.program)
        self.url = self._process.wait_until_serving().url

    @property
    def client(self) -> Tirami:
        """Its administrator."""
        if self._client is None:
            self._client = Tirami(self.url, token=read_secret(self.home / "admin.token").decode().strip())
        return self._client

    @property
    def book(self) -> StateReply:
        return self.client.log_state()

    @property
    def balance(self) -> int:
        """Of its own key, TRM: what it was granted is no part of it, only what it earned and spent."""
        return self.client.balance(BalanceQuery(node=self.key.hex())).net_balance

    def metric(self, name: str) -> float:
        """One figure without labels of its metrics."""
        lines = self.client.metrics().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """What its log says about an event."""
        lines = (line for line in (self.home / "node.log").read_text().splitlines() if line.startswith("{"))
        return [said for line in lines if (said := json.loads(line))["event"] == event]

    def stop(self) -> None:
        self._forget()
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        self._forget()
        assert self._process is not None
        self._process.kill()

    def _forget(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


@dataclass(slots=True)
class Pair:
    """The stage: who takes part, and what was seen so far."""

    model: str
    provider: Member
    consumer: Member
    rogue: Member
    report: Report

    @classmethod
    def built(cls, scratch: Path, model: str, environment: Mapping[str, str], report: Report) -> "Pair":
        """Three homes under one network file; nothing runs yet."""
        file = scratch / "network.json"
        shared = {"NETWORK_FILE": str(file), "PRICING_FOLLOW_LOAD": "false"}
        selling = {**shared, "INFER_MODEL": model}
        provider = Member(scratch / "provider", selling, environment)
        buying = {**shared, "MESH_CONSUME": "trusted"}
        consumer = Member(scratch / "consumer", buying, environment, options=("--no-model",))
        rogue = Member(
            scratch / "rogue", selling, environment, program=("tirami.testing.rogue", "count", "ids", "text")
        )
        keys = [provider.key.hex(), consumer.key.hex()]
        parameters = {"witnesses": 1, "quorum": 1, "stranger_tokens": WINDOW, "voucher_trm": WINDOW}
        issuers = [{"key": key} for key in keys]
        network = {"format": "tirami/1/network", "id": "demo", "parameters": parameters, "issuers": issuers}
        file.write_text(json.dumps({**network, "witnesses": keys}))
        consumer.settings = {**consumer.settings, "MESH_BOOTSTRAP": f"{provider.address} {rogue.address}"}
        return cls(model, provider, consumer, rogue, report)

    def ask(self, question: str, max_tokens: int) -> Iterator[dict[str, Any]]:
        """Chunks of an answer the consumer buys; asked again while it has not heard of a provider yet."""
        body = ChatCompletionRequest.model_validate(
            {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0}
        )
        deadline = time.monotonic() + MEETING_S
        while True:
            try:
                yield from self.consumer.client.stream_chat(body)
                return
            except TiramiError as error:
                if error.code != "no_model" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def equal_books(self) -> StateReply:
        """Wait until both books are the same to the bit; how they are then."""

        def equal() -> bool:
            return self.provider.book.state_hash == self.consumer.book.state_hash

        until(equal, "both books become equal", 30)
        return self.consumer.book

    def close(self) -> None:
        for member in (self.consumer, self.rogue, self.provider):
            member.stop()


def until(condition: Callable[[], object], claim: str, seconds: float) -> None:
    """Raises ``DemoFailed`` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, claim, seconds=seconds)
        time.sleep(0.1)


def told(chunks: Iterator[dict[str, Any]]) -> tuple[str, str | None, dict[str, Any]]:
    """Text, finish reason and bill of a streamed answer, to its end."""
    text, reason = "", None
    bill: dict[str, Any] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            reason = choice.get("finish_reason") or reason
        bill = chunk.get("x_tirami") or bill
    return text, reason, bill


LOST = (httpx2.TransportError,)
"""What a stream raises whose node was killed."""
