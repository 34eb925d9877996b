"""How many strangers get a place at this node's engines, and that offers count."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.nodes import Node, network_file, node
from tirami.core.errors import QueueFull
from tirami.core.keys import SigningKey
from tirami.testing import MemoryNetwork


@pytest.fixture
async def seller(tmp_path: Path) -> AsyncIterator[Node]:
    file, _ = network_file(tmp_path, ["seller"])
    flags = {"mesh.slots": 1, "infer.slots": 8}
    async with node(tmp_path / "seller", file, MemoryNetwork(), **flags) as opened:
        opened.parts.engines.serve(ScriptedEngine())
        yield opened


async def test_many_who_ask_at_once_get_no_more_places_than_there_are(seller: Node) -> None:
    """None of them has accepted yet: `mesh.slots` counts places, not answers."""
    desk, got = seller.mesh.desk, 0

    async def ask(held: AsyncExitStack) -> None:
        nonlocal got
        try:
            await held.enter_async_context(desk.serve(CARD.digest, SigningKey.generate().public_key))
        except QueueFull:
            return
        got += 1

    async with AsyncExitStack() as held:
        await asyncio.gather(*(ask(held) for _ in range(7)))
        assert got == 1
        assert desk.free_slots == 0
    assert desk.free_slots == 1
