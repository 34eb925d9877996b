"""What one bought answer puts on the wire: question, quote, pieces, vouchers, the trade, and word of it to both."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tests.market.scripted import ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Node, count_in_numbers, network_file, node
from tests.waiting import until

from bench.result import Result, measured
from bench.wire import WEALTH, InMemory, Quic, Sent, Wire, unbounded
from tirami.core.keyfile import load_or_create_node_key

TRADES, RUNS, SHORT, LONG = 5, 5, 1, 65


@dataclass
class Trade:
    """Answers bought over one wire, one after the other."""

    wire: Wire
    buyer: Node
    seller: Node
    http: aiohttp.ClientSession

    async def sent(self, tokens: int) -> Sent:
        """In all, of so many answers, until both have booked them."""
        before = self.wire.sent(self.buyer.parts.key.public_key)
        books = [self._trades(each) for each in (self.buyer, self.seller)]
        for _ in range(TRADES):
            async with self.http.post(self.buyer.url + CHAT, json=HELLO | {"max_tokens": tokens}) as reply:
                assert reply.status == 200, await reply.text()
                await reply.read()
        await until(lambda: [self._trades(each) for each in (self.buyer, self.seller)] == [n + TRADES for n in books])
        return self.wire.sent(self.buyer.parts.key.public_key) - before

    @staticmethod
    def _trades(one: Node) -> int:
        return len(one.parts.ledger.state.records)


@asynccontextmanager
async def trading(home: Path, wire: Wire) -> AsyncIterator[Trade]:
    file, _ = network_file(home, ["buyer", "seller"], None, **WEALTH)
    for name in ("buyer", "seller"):
        await wire.bind(load_or_create_node_key(home / name / "node.key")[0])
    with pytest.MonkeyPatch.context() as patched:
        count_in_numbers(patched)
        async with node(home / "seller", file, wire) as seller, aiohttp.ClientSession() as http:
            seller.parts.engines.serve(ScriptedEngine(LONG))
            known = str(seller.mesh.mesh.address())
            async with node(home / "buyer", file, wire, **{"mesh.consume": "any", "mesh.bootstrap": known}) as buyer:
                await until(lambda: bool(list(buyer.mesh.shop.providers("scripted", LONG))))
                await unbounded(buyer.url, buyer.parts.admin_token, buyer.parts.key.public_key.hex())
                yield Trade(wire, buyer, seller, http)


async def measure(home: Path, wire: Wire) -> list[Result]:
    sizes, further, pieces = [], [], []
    async with trading(home, wire) as trade:
        await trade.sent(SHORT)
        for _ in range(RUNS):
            short, long = await trade.sent(SHORT), await trade.sent(LONG)
            sizes.append(short.bytes / TRADES)
            pieces.append(short.pieces / TRADES)
            further.append((long.bytes - short.bytes) / TRADES / (LONG - SHORT))
    name = f"mesh: a trade of {SHORT} token on the wire, {wire.medium}"
    return [
        measured(f"{name}, bytes", sizes, "B"),
        measured(f"{name}, {wire.pieces}", pieces, wire.pieces),
        measured(f"{name}, bytes each further token", further, "B"),
    ]


async def run() -> list[Result]:
    results = []
    for wire in (InMemory(), Quic()):
        with tempfile.TemporaryDirectory() as home:
            results += await measure(Path(home), wire)
    return results
