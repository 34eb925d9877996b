"""A server that comes late, goes and comes back: tried again in growing pauses, asked after only while it is gone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.market.scripted import CARD
from tests.waiting import until
from tirami.core.errors import Conflict, ModelLoadError, TiramiError
from tirami.infer import EngineStatus, ModelCard, UpstreamEngine
from tirami.node.engines.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, UpstreamSupervisor


@dataclass
class Server:
    """An engine whose server is there or not; counts what was asked of it."""

    there: bool = False
    said: str = "nobody answers"
    known: bool = True
    """Whether the engine knows that it is there."""
    starts: int = 0
    checks: int = 0
    closes: int = 0
    card: ModelCard = CARD
    fault: Exception | None = None

    async def start(self) -> None:
        self.starts += 1
        if not self.there:
            raise ModelLoadError(self.said)

    async def check(self) -> None:
        self.checks += 1
        if self.fault is not None:
            raise self.fault
        self.known = self.there

    async def close(self) -> None:
        self.closes += 1

    def status(self) -> EngineStatus:
        return EngineStatus(self.known, 1, 0, 0, "")


@dataclass
class Pauses:
    """A sleep that ends when the test says so."""

    asked: list[float] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()
        self.over.clear()

    async def pass_by(self, times: int = 1) -> None:
        for _ in range(times):
            before = len(self.asked)
            self.over.set()
            await until(lambda: len(self.asked) > before)  # noqa: B023 (awaited before it changes)


@dataclass
class Scene:
    server: Server
    pauses: Pauses
    supervisor: UpstreamSupervisor
    adopted: list[object]
    objection: TiramiError | None = None


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async def adopt(engine: UpstreamEngine) -> None:
        if made.objection is not None:
            raise made.objection
        made.adopted.append(engine)

    server, pauses = Server(), Pauses()
    made = Scene(server, pauses, UpstreamSupervisor(cast(UpstreamEngine, server), adopt, pauses.sleep), [])
    with pytest.raises(ModelLoadError, match="nobody answers"):
        await made.supervisor.start()
    running = asyncio.create_task(made.supervisor.run())
    await until(lambda: pauses.asked)
    yield made
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled(), "nothing but its owner ends it"


async def test_who_is_not_there_is_tried_again_in_growing_pauses_up_to_the_longest(scene: Scene) -> None:
    await scene.pauses.pass_by(7)
    assert scene.pauses.asked == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert scene.server.starts == 8
    assert scene.supervisor.problem == "nobody answers"
    scene.server.said = "it does not tell"
    await scene.pauses.pass_by()
    assert (scene.supervisor.problem, scene.adopted) == ("it does not tell", [])


async def test_who_comes_late_is_adopted_once_and_asked_nothing_while_it_works(scene: Scene) -> None:
    await scene.pauses.pass_by(3)
    scene.server.there = True
    await scene.pauses.pass_by(4)
    assert scene.adopted == [scene.server]
    assert (scene.server.starts, scene.server.checks, scene.server.closes) == (5, 0, 0)
    assert scene.supervisor.problem is None
    assert scene.pauses.asked[-3:] == [FIRST_PAUSE_S] * 3


async def test_who_went_is_asked_after_until_it_is_back(scene: Scene) -> None:
    scene.server.there = True
    await scene.pauses.pass_by()
    scene.server.there = scene.server.known = False
    await scene.pauses.pass_by(3)
    assert scene.server.checks == 3
    assert scene.pauses.asked[-3:] == [2, 4, 8]
    scene.server.there = True
    await scene.pauses.pass_by(3)
    assert scene.server.known
    assert scene.server.checks == 4
    assert scene.adopted == [scene.server], "it is the same engine"
    assert scene.pauses.asked[-1] == FIRST_PAUSE_S


async def test_an_engine_nobody_can_take_is_closed_and_tried_again(scene: Scene) -> None:
    scene.server.there, scene.objection = True, Conflict("a model of this name is in use")
    await scene.pauses.pass_by()
    assert (scene.server.closes, scene.supervisor.problem) == (1, "a model of this name is in use")
    scene.objection = None
    await scene.pauses.pass_by()
    assert scene.adopted == [scene.server]


async def test_a_fault_of_our_own_ends_no_supervision(scene: Scene) -> None:
    scene.server.there = True
    await scene.pauses.pass_by()
    scene.server.known, scene.server.fault = False, RuntimeError("a fault")
    await scene.pauses.pass_by(2)
    scene.server.fault = None
    await scene.pauses.pass_by()
    assert scene.server.known
