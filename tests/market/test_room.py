"""The waiting room: who is called next, who is turned away, and that no place is ever lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tirami.core.errors import QueueFull
from tirami.market import WaitingRoom
from tirami.testing import ManualClock


class Queue:
    """Tasks that wait for a place, keep it until they are told to leave, and note the order in which they got in."""

    def __init__(self, slots: int, capacity: int) -> None:
        self.room = WaitingRoom(slots, capacity, ManualClock())
        self.entered: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, *, owner: bool = False, gentle: bool = False) -> None:
        """``a1`` is the first request of payer ``a``."""
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, owner, gentle))
        await settle()

    async def _stay(self, name: str, owner: bool, gentle: bool) -> None:
        async with self.room.place(name[:1].encode(), owner=owner, gentle=gentle):
            self.entered.append(name)
            await self.leave[name].wait()

    async def go(self, name: str) -> None:
        self.leave[name].set()
        await self.tasks[name]
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def queue(slots: int, capacity: int) -> AsyncIterator[Queue]:
    made = Queue(slots, capacity)
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    assert (made.room.running, made.room.waiting) == (0, 0)


async def test_places_are_given_in_order_and_the_owner_goes_first() -> None:
    async with queue(1, 10) as line:
        for name in ("a1", "a2", "b1"):
            await line.come(name)
        await line.come("o1", owner=True)
        for name in ("a1", "o1", "a2", "b1"):
            assert line.entered[-1] == name
            await line.go(name)


async def test_the_payer_with_the_fewest_places_is_called_first() -> None:
    async with queue(2, 10) as line:
        for name in ("a1", "a2", "a3", "a4", "b1"):
            await line.come(name)
        await line.go("a1")
        assert line.entered[-1] == "b1"


async def test_a_crowd_gives_way_to_a_newcomer_and_is_told_when_to_come_back() -> None:
    async with queue(1, 3) as line:
        for name in ("a1", "a2", "a3", "a4"):
            await line.come(name)
        await line.come("b1")
        with pytest.raises(QueueFull) as caught:
            await line.tasks["a4"]
        assert caught.value.retry_after is not None and caught.value.retry_after >= 1
        assert line.room.waiting == 3
        await line.come("a5")
        with pytest.raises(QueueFull):
            await line.tasks["a5"]


async def test_who_is_gentle_turns_nobody_away_and_is_turned_away_like_any_other() -> None:
    async with queue(1, 2) as line:
        for name in ("a1", "a2", "a3"):
            await line.come(name)
        await line.come("b1", gentle=True)
        with pytest.raises(QueueFull):
            await line.tasks["b1"]
        await line.go("a1")
        await line.come("b2", gentle=True)
        assert line.room.waiting == 2
        await line.go("a2")
        await line.go("a3")
        await line.go("b2")
        assert line.entered == ["a1", "a2", "a3", "b2"]


async def test_a_request_that_leaves_the_queue_or_its_place_frees_it() -> None:
    async with queue(1, 10) as line:
        for name in ("a1", "b1", "c1"):
            await line.come(name)
        line.tasks["b1"].cancel()
        await settle()
        assert line.room.waiting == 1
        line.tasks["a1"].cancel()
        await settle()
        assert line.entered == ["a1", "c1"]


async def test_a_request_called_and_cancelled_in_the_same_step_passes_its_place_on() -> None:
    async with queue(1, 10) as line:
        async with line.room.place(b"a", owner=False):
            await line.come("b1")
            await line.come("c1")
        line.tasks["b1"].cancel()
        await settle()
        assert line.entered == ["c1"]


async def test_a_place_is_free_only_if_nobody_is_before_whoever_comes() -> None:
    async with queue(1, 10) as line:
        assert line.room.free
        await line.come("a1")
        assert not line.room.free
        await line.come("b1")
        await line.go("a1")
        assert not line.room.free, "it is given to who waited"
        await line.go("b1")
        assert line.room.free
    assert not WaitingRoom(1, 1, ManualClock(), is_open=False).free
