"""A buyer and several nodes that sell it the scripted engine's answers, over a network in memory."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Node, count_in_numbers, network_file, node
from tests.waiting import until
from tirami.core.keys import PublicKey
from tirami.infer import ModelCard
from tirami.net.probes import Call
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

    async def ask(self, headers: Mapping[str, str] | None = None, **changed: object) -> tuple[int, dict[str, object]]:
        async with self.http.post(self.buyer.url + CHAT, json=HELLO | changed, headers=headers) as reply:
            return reply.status, await reply.json(content_type=None)

    async def admin(self, path: str, body: object) -> dict[str, str]:
        """Have the buyer's administrator do it."""
        headers = {"authorization": f"Bearer {self.buyer.parts.admin_token}"}
        async with self.http.post(self.buyer.url + path, json=body, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            return dict(await reply.json())

    async def agent(self) -> tuple[str, str]:
        """An account hosted by the buyer, and a token for it."""
        account = (await self.admin("/v1/tirami/accounts", {"label": "agent"}))["account"]
        body = {"scope": "inference", "node_id": account}
        return account, (await self.admin("/v1/tirami/tokens/issue", body))["token"]

    def ranked(self) -> list[Seller]:
        """The sellers as the buyer would ask them."""
        by_key = {bytes(seller.key): seller for seller in self.sellers}
        return [by_key[found.peer.signal.node] for found in self.buyer.mesh.shop.providers("scripted", 20)]

    def cut_off(self, seller: Seller) -> None:
        """Its machine is gone: no word from it reaches anybody."""
        self.memory.partition([[seller.key]])


@asynccontextmanager
async def market(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int = 2,
    cards: Sequence[ModelCard] = (),
    call: Call | None = None,
    **flags: object,
) -> AsyncIterator[Market]:
    """``cards``: of the sellers' engines, where they are not all alike; ``call``: of all; ``flags``: the buyer's.

    The buyer sells nothing: an engine of its own is used by nobody but who asks here.
    """
    names = [str(number) for number in range(count + 1)]
    file, _ = network_file(home, names)
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with AsyncExitStack() as stack:
        sellers = []
        for number, name in enumerate(names[1:]):
            opened = await stack.enter_async_context(node(home / name, file, memory, call))
            engine = ScriptedEngine(20)
            if cards:
                engine.card = cards[number]
            opened.parts.engines.serve(engine)
            sellers.append(Seller(opened, engine))
        known = " ".join(str(seller.node.mesh.mesh.address()) for seller in sellers)
        given = {"mesh.consume": "any", "mesh.sell": False, "mesh.bootstrap": known} | flags
        buyer = await stack.enter_async_context(node(home / names[0], file, memory, call, **given))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        found = Market(buyer, sellers, memory, http)
        await until(lambda: len(found.ranked()) == count)
        for seller in sellers:
            seller.engine.opened = 0  # it has been tried, to know its speed
        yield found
