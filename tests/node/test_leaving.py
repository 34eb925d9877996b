"""A clean stop in the middle of what is sold and bought: both sides sign for what was delivered first."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.market.scripted import ScriptedEngine
from tests.node.nodes import CHAT, HELLO, Node, count_in_numbers, network_file, node
from tests.node.sellers import market
from tests.waiting import until
from tirami.infer import FinishReason
from tirami.market import Settlement
from tirami.net.session import provider
from tirami.node.chat import ChatCall
from tirami.testing import MemoryNetwork

DELIVERED = 8
COST = 1 + DELIVERED


@dataclass
class Two:
    """Each of two nodes with what ends it."""

    seller: Node
    buyer: Node
    engine: ScriptedEngine
    selling: AsyncExitStack
    buying: AsyncExitStack


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    file, _ = network_file(tmp_path, ("seller", "buyer"))
    count_in_numbers(monkeypatch)
    memory = MemoryNetwork(seed=1)
    async with AsyncExitStack() as selling, AsyncExitStack() as buying:
        seller = await selling.enter_async_context(node(tmp_path / "seller", file, memory))
        engine = ScriptedEngine(20)
        seller.parts.engines.serve(engine)
        flags = {"mesh.consume": "any", "mesh.bootstrap": str(seller.mesh.mesh.address())}
        buyer = await buying.enter_async_context(node(tmp_path / "buyer", file, memory, **flags))
        await until(lambda: bool(buyer.mesh.peers.providers("scripted", buyer.parts.ledger.now())))
        engine.opened, engine.stall_after = 0, DELIVERED
        yield Two(seller, buyer, engine, selling, buying)


async def test_a_seller_that_stops_is_paid_for_what_it_delivered(two: Two) -> None:
    async with aiohttp.ClientSession() as http:

        async def ask() -> tuple[int, dict[str, object]]:
            async with http.post(two.buyer.url + CHAT, json=HELLO) as reply:
                return reply.status, await reply.json(content_type=None)

        asking = asyncio.create_task(ask())
        await until(lambda: two.engine.waiting == 1)
        began = time.monotonic()
        await two.selling.aclose()
        assert time.monotonic() - began < provider.LEAVING_S
        assert not two.buyer.mesh.mesh.peers, "it was told, and waits for no silence"
        status, reply = await asking
    assert status == 200, reply
    assert reply["choices"][0]["finish_reason"] == "node_stopped"  # type: ignore[index]
    assert reply["x_tirami"]["trm_cost"] == COST  # type: ignore[index]
    assert (two.seller.net, two.buyer.net) == (COST, -COST)
    for each in (two.seller, two.buyer):
        state = each.parts.ledger.state
        assert not state.claims.open and not state.holds.open


async def test_a_buyer_that_stops_signs_for_what_it_got(two: Two) -> None:
    chat, owner = two.buyer.parts.chat, two.buyer.parts.payers.owner

    async def buy() -> Settlement:
        call = ChatCall(owner, "scripted", HELLO["messages"], 20, 0.7, 1.0, 0, 1, "req-1")  # type: ignore[arg-type]
        async with await chat.stream(call) as stream:
            async for _ in stream:
                pass
            return await stream.settle()

    buying = asyncio.create_task(buy())
    await until(lambda: two.engine.waiting == 1)
    await two.buying.aclose()
    settlement = await buying
    assert settlement.reason is FinishReason.STOPPED
    assert settlement.trade is not None and settlement.cost == COST
    await until(lambda: two.seller.net == COST)
    assert not two.seller.parts.ledger.state.claims.open
    assert two.buyer.net == -COST


async def test_a_seller_that_stops_before_its_first_token_costs_nothing_and_the_next_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2) as found:
        first, second = found.ranked()
        first.engine.stall_after = 0
        asking = asyncio.create_task(found.ask())
        await until(lambda: first.engine.waiting == 1)
        await first.node.mesh.provider.stop()
        status, reply = await asking
        assert status == 200, reply
        assert (first.engine.opened, second.engine.opened) == (1, 1)
        await until(lambda: second.node.net == -found.buyer.net > 0)
        assert first.node.net == 0
        status, _ = await found.ask()
        assert status == 200
        assert first.engine.opened == 1, "it sells nothing more"
