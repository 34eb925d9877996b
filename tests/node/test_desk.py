"""Places for strangers: as many as the owner set, never the last one of an engine, or none while the owner works."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.nodes import Node, network_file, node
from tirami.core.errors import ModelNotFound, QueueFull
from tirami.core.keys import Digest, PublicKey, SigningKey
from tirami.ledger import SellingPaused
from tirami.node.mesh.desk import EngineDesk
from tirami.testing import MemoryNetwork


@asynccontextmanager
async def selling(home: Path, slots: int = 8, **flags: object) -> AsyncIterator[Node]:
    file, _ = network_file(home, ["seller"])
    async with node(home / "seller", file, MemoryNetwork(seed=1), **{"infer.slots": slots, **flags}) as opened:
        opened.parts.engines.serve(ScriptedEngine(20))
        yield opened


def stranger() -> PublicKey:
    return SigningKey.generate().public_key


@asynccontextmanager
async def owners(seller: Node) -> AsyncIterator[None]:
    """An answer of the owner's own; it never waits here."""
    async with seller.parts.engines.use("scripted", owner=True) as served:
        assert served.room.running < served.room.slots, "the place kept for the owner"
        async with served.room.place(b"owner", owner=True):
            yield


@pytest.mark.parametrize(("slots", "most", "served"), [(8, 3, 3), (4, 8, 3), (2, 8, 1), (1, 8, 0)])
async def test_strangers_get_mesh_slots_and_never_the_last_place(
    tmp_path: Path, slots: int, most: int, served: int
) -> None:
    """Also while all of them have only a quote yet."""
    async with selling(tmp_path, slots, **{"mesh.slots": most}) as seller, AsyncExitStack() as stack:
        desk = seller.mesh.desk
        assert desk.free_slots == served
        for left in range(served, 0, -1):
            assert desk.free_slots == left
            await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        assert desk.free_slots == 0
        with pytest.raises(QueueFull):
            await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        async with owners(seller):
            pass
        await stack.aclose()
        assert desk.free_slots == served


async def test_with_idle_only_a_stranger_waits_for_the_owner_and_not_for_other_strangers(tmp_path: Path) -> None:
    flags = {"mesh.slots": 2, "mesh.idle_only": True}
    async with selling(tmp_path, **flags) as seller, AsyncExitStack() as stack:
        desk = seller.mesh.desk
        async with owners(seller):
            assert desk.free_slots == 0
        await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        assert desk.free_slots == 1
        await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        with pytest.raises(QueueFull):
            await stack.enter_async_context(desk.serve(CARD.digest, stranger()))


async def test_many_who_ask_at_once_get_no_more_places_than_there_are(tmp_path: Path) -> None:
    """None of them has accepted yet: ``mesh.slots`` counts places, not answers."""
    got = 0

    async def ask(desk: EngineDesk, held: AsyncExitStack) -> None:
        nonlocal got
        try:
            await held.enter_async_context(desk.serve(CARD.digest, stranger()))
        except QueueFull:
            return
        got += 1

    async with selling(tmp_path, **{"mesh.slots": 1}) as seller, AsyncExitStack() as held:
        await asyncio.gather(*(ask(seller.mesh.desk, held) for _ in range(7)))
        assert got == 1
        assert seller.mesh.desk.free_slots == 0


async def test_of_two_models_the_owner_keeps_a_place_at_each(tmp_path: Path) -> None:
    """What is free at one engine is of no use to an owner who wants the other."""
    async with selling(tmp_path, 2, **{"mesh.slots": 8}) as seller, AsyncExitStack() as stack:
        other = ScriptedEngine(20)
        other.card = replace(CARD, name="other", digest=Digest(b"\7" * 32))
        seller.parts.engines.serve(other)
        desk = seller.mesh.desk
        await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        with pytest.raises(QueueFull):
            await stack.enter_async_context(desk.serve(CARD.digest, stranger()))
        async with owners(seller):
            pass
        await stack.enter_async_context(desk.serve(other.card.digest, stranger()))


async def test_nothing_is_sold_by_who_pauses_or_to_who_wants_something_else(tmp_path: Path) -> None:
    async with selling(tmp_path) as seller:
        desk = seller.mesh.desk
        with pytest.raises(ModelNotFound):
            async with desk.serve(Digest(bytes(32)), stranger()):
                pass
        await seller.parts.ledger.record_facts(SellingPaused(True, "test"))
        with pytest.raises(ModelNotFound):
            async with desk.serve(CARD.digest, stranger()):
                pass
