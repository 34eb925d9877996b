"""A buyer and several nodes that sell it the scripted engine's answers, over a network in memory."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tests.net.session.conftest import Words
from tests.node.test_mesh import CHAT, HELLO, Node, Numbers, node
from tests.waiting import until
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import PublicKey
from tirami.node.mesh import Shop
from tirami.node.mesh import shop as shop_module
from tirami.testing import MemoryNetwork

ALL = "".join(f"{i} " for i in range(20))


@dataclass
class Seller:
    node: Node
    engine: ScriptedEngine

    @property
    def key(self) -> PublicKey:
        return self.node.parts.key.public_key


@dataclass
class Market:
    buyer: Node
    sellers: list[Seller]
    memory: MemoryNetwork
    http: aiohttp.ClientSession

    async def ask(self, **changed: object) -> tuple[int, dict[str, object]]:
        async with self.http.post(self.buyer.url + CHAT, json=HELLO | changed) as reply:
            return reply.status, await reply.json(content_type=None)

    def ranked(self) -> list[Seller]:
        """The sellers as the buyer would ask them."""
        by_key = {bytes(seller.key): seller for seller in self.sellers}
        return [by_key[found.peer.signal.node] for found in self.buyer.mesh.shop.providers("scripted", 20)]

    def cut_off(self, seller: Seller) -> None:
        """Its machine is gone: no word from it reaches anybody."""
        self.memory.partition([[seller.key]])


@asynccontextmanager
async def market(home: Path, monkeypatch: pytest.MonkeyPatch, count: int = 2, **flags: object) -> AsyncIterator[Market]:
    homes, keys = [home / str(number) for number in range(count + 1)], []
    for directory in homes:
        directory.mkdir(mode=0o700)
        keys.append(load_or_create_node_key(directory / "node.key")[0].public_key.hex())
    file = home / "network.json"
    document = {"format": "tirami/1/network", "id": "testnet", "parameters": {"witnesses": 1, "quorum": 1}}
    file.write_text(json.dumps(document | {"issuers": [{"key": key} for key in keys], "witnesses": keys}))

    async def prompter(*_: object) -> Numbers:
        return Numbers()

    monkeypatch.setattr(Shop, "prompter", prompter)
    monkeypatch.setattr(shop_module, "TokenizerCheck", lambda _: Words())
    memory = MemoryNetwork(seed=1)
    async with AsyncExitStack() as stack:
        sellers = []
        for directory in homes[1:]:
            opened = await stack.enter_async_context(node(directory, file, memory))
            engine = ScriptedEngine(20)
            opened.parts.engines.serve(engine)
            sellers.append(Seller(opened, engine))
        known = " ".join(str(seller.node.mesh.mesh.address()) for seller in sellers)
        given = {"mesh.consume": "any", "mesh.bootstrap": known} | flags
        buyer = await stack.enter_async_context(node(homes[0], file, memory, **given))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        found = Market(buyer, sellers, memory, http)
        await until(lambda: len(found.ranked()) == count)
        for seller in sellers:
            seller.engine.opened = 0  # it has been tried, to know its speed
        yield found
