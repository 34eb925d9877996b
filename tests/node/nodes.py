"""Whole nodes in this process, usually over a network in memory: each with its own home, book and HTTP door."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.net.session.conftest import Words
from tirami.core.clock import SystemClock
from tirami.core.config import Config, load_config
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey
from tirami.core.units import TokenCount
from tirami.infer import Prompt
from tirami.net import Endpoint
from tirami.net.probes import Call
from tirami.node.http import HttpServer, build_app
from tirami.node.mesh import MeshService, Shop, opened_mesh
from tirami.node.mesh import shop as shop_module
from tirami.node.parts import Parts, open_parts

CHAT = "/v1/chat/completions"
HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 20}


@dataclass
class Node:
    parts: Parts
    mesh: MeshService
    url: str

    @property
    def net(self) -> int:
        return self.parts.ledger.balance(self.parts.key.public_key).net


class Bound(Protocol):
    """Where nodes are met: a :class:`~tirami.testing.MemoryNetwork`, or whatever else has an endpoint for each."""

    def endpoint(self, key: PublicKey, /) -> Endpoint: ...


class Unsaid:
    """Stands in for the size of a model: no scripted one is of another."""

    def contradicted(self, _: object) -> None:
        return None


class Numbers:
    """Stands in for a tokenizer: the scripted engine speaks in numbers."""

    size = Unsaid()
    tokenizer = None

    async def prepare(self, messages: object, tools: object = None) -> Prompt:
        return Prompt((0, 1, 2), TokenCount(3), True, "", ())

    def prepare_text(self, text: str) -> Prompt:
        return Prompt((0, 1, 2), TokenCount(3), True, text, ())


def config(home: Path, network: Path, **flags: object) -> Config:
    given = {
        "data_dir": str(home),
        "network.file": str(network),
        "infer.models_dir": str(home / "models"),
        "infer.model": "",
        "pricing.follow_load": False,
        **flags,
    }
    return load_config(None, {}, given)


@asynccontextmanager
async def node(
    home: Path, network: Path, wire: Bound, call: Call | None = None, /, **flags: object
) -> AsyncIterator[Node]:
    """``call``: how it reaches a peer as a stranger would, for probes."""
    async with open_parts(config(home, network, **flags), SystemClock()) as parts:
        endpoint = wire.endpoint(parts.key.public_key)
        async with (
            opened_mesh(parts, endpoint, call=call) as mesh,
            HttpServer(build_app(parts), "127.0.0.1", 0) as server,
        ):
            mesh.desk._canon = lambda _: Words()  # the scripted engine has no tokenizer
            yield Node(parts, mesh, server.url)


def network_file(
    home: Path, names: Iterable[str], issuers: Iterable[str] | None = None, **parameters: int
) -> tuple[Path, list[str]]:
    """A network of the nodes ``home/name``, whose keys are made; those named as issuers issue and witness, or all."""
    keys = {}
    for name in names:
        (home / name).mkdir(mode=0o700)
        keys[name] = load_or_create_node_key(home / name / "node.key")[0].public_key.hex()
    chosen = [keys[name] for name in issuers or keys]
    document = {"format": "tirami/1/network", "id": "testnet", "parameters": {"witnesses": 1, "quorum": 1} | parameters}
    file = home / "network.json"
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in chosen], "witnesses": chosen}))
    return file, list(keys.values())


def count_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever buys checks the scripted engine's numbers as words."""

    async def prompter(*_: object) -> Numbers:
        return Numbers()

    monkeypatch.setattr(Shop, "prompter", prompter)
    monkeypatch.setattr(shop_module, "TokenizerCheck", lambda _: Words())
