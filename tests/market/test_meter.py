"""The meter is told once an answer, whatever becomes of it, and never about a token."""

import asyncio
from pathlib import Path

import pytest

from tests.market.conftest import House, opened_house
from tests.market.test_inference import order
from tirami.core.errors import EngineFailed
from tirami.infer import FinishReason, Reading
from tirami.market import WaitingRoom
from tirami.testing.clock import ManualClock


class Notes:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.settlements: list[tuple[str, FinishReason, int, float]] = []

    def queued(self, model: str, seconds: float) -> None:
        raise AssertionError("a session does not queue")

    def made(self, model: str, reading: Reading) -> None:
        self._tokens = reading.completion_tokens

    def settled(self, model: str, reason: FinishReason, seconds: float) -> None:
        self.settlements.append((model, reason, self._tokens, seconds))


async def measured(house: House, *, streamed: bool, stop_after: int | None = None) -> Notes:
    notes = house.market._meter = Notes()
    ticket = await house.market.begin_inference(await order(house))
    async with house.market.execute(ticket, ticket.payer.key, streamed=streamed) as session:
        async for chunk in session:
            assert not notes.settlements
            if chunk.count == stop_after:
                break
        else:
            session.deliver()
            await session.settle()
            await session.settle()
    return notes


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_whole_answer_is_told_once(house: House, streamed: bool) -> None:
    house.engine.length = 150
    (told,) = (await measured(house, streamed=streamed)).settlements
    assert told[:3] == ("scripted", FinishReason.STOP, 150)
    assert 0 < told[3] < 5


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_its_client_left_is_told_once(house: House, streamed: bool) -> None:
    (told,) = (await measured(house, streamed=streamed, stop_after=4)).settlements
    assert told[:3] == ("scripted", FinishReason.CANCELLED, 4)


async def test_an_engine_that_dies_is_told_once(house: House) -> None:
    notes = house.market._meter = Notes()
    house.engine.length, house.engine.fail_after = 10, 3
    ticket = await house.market.begin_inference(await order(house))
    with pytest.raises(EngineFailed):
        async with house.market.execute(ticket, ticket.payer.key, streamed=True) as session:
            async for _ in session:
                pass
    assert [told[1] for told in notes.settlements] == [FinishReason.FAILED]


async def test_running_answers_and_their_tokens_are_counted(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        house.engine.length, house.engine.stall_after = 20, 7
        assert (house.market.running, house.market.tokens_running) == (0, 0)
        for streamed in (True, False):
            house.engine.stalled.clear()
            house.engine.resume.clear()
            work = asyncio.create_task(measured(house, streamed=streamed))
            await house.engine.stalled.wait()
            assert (house.market.running, house.market.tokens_running) == (1, 7)
            house.engine.resume.set()
            await work
            assert (house.market.running, house.market.tokens_running) == (0, 0)


async def test_a_place_tells_how_long_it_was_waited_for() -> None:
    clock = ManualClock()
    room = WaitingRoom(1, 5, clock)

    async def wait() -> float:
        async with room.place(b"b", owner=False) as waited:
            return waited

    async with room.place(b"a", owner=False) as waited:
        assert waited == 0
        second = asyncio.create_task(wait())
        await asyncio.sleep(0)
        clock.advance(4)
    assert await second == 4
