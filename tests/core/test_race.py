"""The quickest is taken, and no other goes on."""

import asyncio

import pytest

from tirami.core.errors import EngineFailed, QueueFull
from tirami.core.race import first_of


class Runner:
    """Arrives when it is told to, and notes how it ended."""

    def __init__(self) -> None:
        self.gun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = ""

    async def run(self) -> str:
        try:
            result = await self.gun
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.ended = "cancelled"
            raise
        self.ended = "arrived"
        return result


async def started(count: int = 2) -> "tuple[list[Runner], asyncio.Task[str]]":
    runners = [Runner() for _ in range(count)]
    race = asyncio.create_task(first_of(*(runner.run() for runner in runners)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return runners, race


async def test_the_first_is_taken_and_the_others_have_ended() -> None:
    (slow, quick, other), race = await started(3)
    quick.gun.set_result("quick")
    assert await race == "quick"
    assert (slow.ended, other.ended) == ("cancelled", "cancelled")


async def test_of_several_at_once_the_foremost_is_taken() -> None:
    (first, second), race = await started()
    second.gun.set_result("second")
    first.gun.set_result("first")
    assert await race == "first"


@pytest.mark.parametrize("loser", [0, 1])
async def test_who_fails_leaves_it_to_the_other(loser: int) -> None:
    runners, race = await started()
    runners[loser].gun.set_exception(EngineFailed("scripted"))
    await asyncio.sleep(0.01)
    assert not race.done()
    runners[1 - loser].gun.set_result("other")
    assert await race == "other"


async def test_when_all_fail_the_foremost_error_is_told() -> None:
    (first, second), race = await started()
    second.gun.set_exception(QueueFull("scripted", retry_after=1))
    await asyncio.sleep(0)
    first.gun.set_exception(EngineFailed("scripted"))
    with pytest.raises(EngineFailed):
        await race


async def test_a_fault_ends_all_at_once() -> None:
    (first, second), race = await started()
    second.gun.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await race
    assert first.ended == "cancelled"


async def test_who_is_cancelled_leaves_nobody_running() -> None:
    runners, race = await started()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert [runner.ended for runner in runners] == ["cancelled", "cancelled"]
