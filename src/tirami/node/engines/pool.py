"""The models in memory: one engine and one waiting room each, within a budget, the least recently used giving way."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import (
    Conflict,
    EngineError,
    EngineFailed,
    ModelLoadError,
    ModelNotFound,
    QueueFull,
    TiramiError,
)
from tirami.core.uninterrupted import uninterrupted
from tirami.infer import Engine
from tirami.market import STOPPING_S, WaitingRoom
from tirami.node.engines.budget import Resident, next_leave_s, stay_s, to_unload

MAKE_ROOM_S: Final = 120
"""How long a model waits for memory that others use, before its requests are told to come again."""
FIRST_BACKOFF_S: Final = 5
LONGEST_BACKOFF_S: Final = 300

_log = structlog.get_logger()


class Planned(Protocol):
    """An engine to be started, the bytes it is estimated to take, and those it takes indeed once it runs."""

    @property
    def engine(self) -> Engine: ...

    @property
    def cost(self) -> int: ...

    def measured(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model in use: its engine, and the waiting room before it."""

    engine: Engine
    room: WaitingRoom


@dataclass(slots=True, eq=False)
class Place:
    """A model in memory or on its way there.

    Attributes:
        lobby: where requests wait for the load; it opens when that is over, in the order of the room.
        users: requests that have it or wait for it.
        stays_until: when it may give way at the earliest, monotonic seconds.
    """

    lobby: WaitingRoom
    room: WaitingRoom
    last_used: float
    engine: Engine | None = None
    plan: Planned | None = None
    users: int = 0
    loading: "asyncio.Task[None] | None" = None
    stays_until: float = 0.0

    @property
    def in_use(self) -> bool:
        return self.users > 0 or self.engine is None

    @property
    def cost(self) -> int:
        """Bytes of memory: the estimate, and more where more was measured; 0 until room was made."""
        return max(self.plan.cost, self.plan.measured()) if self.plan else 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed ``times`` in a row; not tried again before ``until`` (monotonic seconds)."""

    error: TiramiError
    times: int
    until: float


class Occupancy:
    """How busy all rooms together are, now and whenever asked."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places

    @property
    def running(self) -> int:
        return sum(place.room.running for place in self._places.values())

    @property
    def waiting(self) -> int:
        return sum(place.room.waiting for place in self._places.values())

    @property
    def full(self) -> bool:
        """Whether no loaded model takes another request."""
        rooms = [place.room for place in self._places.values() if place.engine is not None]
        return bool(rooms) and all(room.full for room in rooms)

    @property
    def slots(self) -> int:
        return sum(place.room.slots for place in self._places.values())


class Pool:
    """Loads models when they are asked for and unloads idle ones for them, each after it stayed for a while.

    Args:
        slots: answers of one model at once.
        queue: requests of one model that may wait.
        budget: bytes for all models together.
        plan: gives the engine for a name, without starting it.
    """

    def __init__(
        self, *, slots: int, queue: int, budget: int, clock: Clock, plan: Callable[[str], Awaitable[Planned]]
    ) -> None:
        self._slots = slots
        self._queue = queue
        self._clock = clock
        self._plan = plan
        self._places: dict[str, Place] = {}
        self._failures: dict[str, Failure] = {}
        self._making_room = asyncio.Lock()
        self._freed = asyncio.Event()
        self._withdrawn: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._began = clock.monotonic()
        self.budget = budget
        self.occupancy = Occupancy(self._places)

    @property
    def places(self) -> Mapping[str, Place]:
        """Models in memory or on their way, by name."""
        return self._places

    @property
    def idle_s(self) -> float:
        """Seconds since a model was used or came; 0 while one is in use, or comes."""
        if any(place.in_use for place in self._places.values()):
            return 0.0
        return self._clock.monotonic() - max((place.last_used for place in self._places.values()), default=self._began)

    @property
    def used(self) -> int:
        """Bytes of memory given away."""
        return sum(place.cost for place in self._places.values())

    def failure(self, name: str) -> TiramiError | None:
        """Why the last load of a model failed."""
        failure = self._failures.get(name)
        return failure.error if failure else None

    def check_backoff(self, name: str) -> None:
        """Raises the error of the last load while it is too early for another."""
        now, failed = self._clock.monotonic(), self._failures.get(name)
        if failed is not None and now < failed.until:
            raise _again(failed.error, max(1, round(failed.until - now)))

    def latest(self) -> str | None:
        """The loaded model that was used last."""
        loaded = [(place.last_used, name) for name, place in self._places.items() if place.engine is not None]
        return max(loaded)[1] if loaded else None

    def adopt(self, engine: Engine) -> None:
        """Put a started engine to work that takes none of this machine's memory; :meth:`close` will close it."""
        self._places[engine.card.name] = self._place(engine)

    @asynccontextmanager
    async def use(self, name: str, payer: bytes = b"", *, owner: bool = False) -> AsyncIterator[Served]:
        """Keep a model in use, loading it first when it must be.

        Requests that come meanwhile wait for the same load, under the rules of the waiting room: bounded, the owner
        first, and nobody kept out by the crowd of another payer.

        Raises:
            ModelNotFound, ModelLoadError: it cannot be loaded; again without a try until its backoff is over.
            QueueFull: too many wait for it already, or other models in use leave it no memory.
        """
        place = self._places.get(name) or self._begin(name)
        place.users += 1
        try:
            if (loading := place.loading) is not None:
                async with place.lobby.place(payer, owner=owner):
                    _raise_failure(loading)
            assert place.engine is not None
            yield Served(place.engine, place.room)
        finally:
            place.users -= 1
            place.last_used = self._clock.monotonic()
            if not place.users:
                self._freed.set()

    def load(self, name: str) -> None:
        """Begin to load a model that is not loaded; a failure is told by :meth:`failure`. Raises it in its backoff."""
        if name not in self._places:
            self._begin(name)

    async def unload(self, name: str) -> None:
        """End a model's engine; nothing happens when it has none.

        Raises ``Conflict`` while it is in use, and for an adopted engine, which nobody could load again.
        """
        place = self._places.get(name)
        if place is None:
            return
        if place.in_use:
            raise Conflict(f"the model {name!r} is in use", param="model")
        if place.plan is None:
            raise Conflict(f"the model {name!r} takes none of this machine's memory and stays", param="model")
        await uninterrupted(self._end(self._taken_out(name)))

    @asynccontextmanager
    async def withdrawn(self, name: str) -> AsyncIterator[None]:
        """A model whose engine has ended and that nobody can load while the context is open.

        Raises ``Conflict`` as :meth:`unload`, and while it is withdrawn already.
        """
        if name in self._withdrawn:
            raise Conflict(f"the model {name!r} is being removed", param="model")
        self._withdrawn.add(name)
        try:
            await self.unload(name)
            yield
        finally:
            self._withdrawn.discard(name)

    async def stop_loading(self) -> None:
        """End the loads under way; who waits for one is told that the node stops."""
        self._stopping = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End every engine, loading ones too."""
        await self.stop_loading()
        for place in self._places.values():
            if place.engine is not None:
                await place.engine.close()

    def _begin(self, name: str) -> Place:
        if self._stopping:
            raise EngineFailed("this node is stopping", retry_after=STOPPING_S)
        if name in self._withdrawn:
            raise ModelNotFound(f"the model {name!r} is being removed", param="model")
        self.check_backoff(name)
        place = self._places[name] = self._place()
        place.loading = asyncio.create_task(self._load(name, place), name=f"load of {name}")
        self._tasks.add(place.loading)
        place.loading.add_done_callback(lambda task: self._loaded(place, task))
        return place

    def _place(self, engine: Engine | None = None) -> Place:
        most = self._slots + self._queue
        lobby = WaitingRoom(most, most, self._clock, is_open=False)
        return Place(lobby, WaitingRoom(self._slots, self._queue, self._clock), self._clock.monotonic(), engine)

    def _loaded(self, place: Place, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who waited, and kept in the failures
        place.loading = None
        place.lobby.open()

    async def _load(self, name: str, place: Place) -> None:
        try:
            plan = await self._plan(name)
            await self._make_room(name, place, plan)
            began = self._clock.monotonic()
            await _start(plan.engine)
        except BaseException as error:
            del self._places[name]
            self._freed.set()
            if isinstance(error, EngineError):
                raise self._failed(name, error) from error
            raise
        self._failures.pop(name, None)
        place.engine = plan.engine
        place.last_used = now = self._clock.monotonic()
        place.stays_until = now + stay_s(now - began)
        _log.info("model_loaded", model=name, memory_mib=place.cost >> 20)

    async def _make_room(self, name: str, place: Place, plan: Planned) -> None:
        """Reserve memory, unloading idle models for it. Raises ``QueueFull`` when those in use do not end."""
        cost = plan.cost
        if cost > self.budget:
            raise ModelLoadError(
                f"{name} needs {cost >> 20} MiB of memory; infer.memory_budget_mib allows {self.budget >> 20}"
            )
        try:
            async with asyncio.timeout(MAKE_ROOM_S):
                await self._making_room.acquire()
                try:
                    going = await self._enough_to_unload(place, cost)
                except BaseException:
                    self._making_room.release()
                    raise
        except TimeoutError:
            left = next_leave_s(self._residents(place), self._clock.monotonic()) or 0
            pause = max(FIRST_BACKOFF_S, math.ceil(left))
            raise QueueFull(f"the models in use leave no memory for {name}", retry_after=pause) from None
        try:
            place.plan = plan
            # all of them at once, or somebody could come to use the second while the first one ends
            await uninterrupted(self._end(*[self._taken_out(idle) for idle in going]))
        finally:
            self._making_room.release()

    async def _enough_to_unload(self, coming: Place, cost: int) -> tuple[str, ...]:
        """What may go, once it is enough: somebody has left a model, or one has stayed long enough."""
        while True:
            residents, now = self._residents(coming), self._clock.monotonic()  # the same moment for both rules
            if (going := to_unload(residents, cost, self.budget, now)) is not None:
                return going
            self._freed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(next_leave_s(residents, now)):
                    await self._freed.wait()

    def _residents(self, coming: Place) -> list[Resident]:
        return [
            Resident(name, place.cost, place.in_use, place.last_used, place.stays_until)
            for name, place in self._places.items()
            if place is not coming
        ]

    def _taken_out(self, name: str) -> Place:
        """An idle model, which from now on nobody can come to use."""
        _log.info("model_unloaded", model=name)
        return self._places.pop(name)

    async def _end(self, *places: Place) -> None:
        await asyncio.gather(*(place.engine.close() for place in places if place.engine is not None))
        self._freed.set()

    def _failed(self, name: str, error: EngineError) -> TiramiError:
        """Note a failure; the error for those who waited."""
        before = self._failures.get(name)
        times = before.times + 1 if before else 1
        pause = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(times - 1, 16))
        self._failures[name] = Failure(error, times, self._clock.monotonic() + pause)
        _log.warning("model_unavailable", model=name, code=error.code, reason=error.message)
        return _again(error, pause)


async def _start(engine: Engine) -> None:
    try:
        await engine.start()
    except BaseException as error:
        await engine.close()
        if isinstance(error, OSError):
            raise ModelLoadError(f"the engine cannot be started: {error.strerror or error}") from error
        raise


def _raise_failure(loading: "asyncio.Task[None]") -> None:
    """Raises the error of a load that is over, or ``EngineFailed`` when the node stopped it."""
    if loading.cancelled():
        raise EngineFailed("this node is stopping", retry_after=STOPPING_S)
    loading.result()


def _again(error: TiramiError, retry_after: int) -> TiramiError:
    """The same failure for somebody who comes before the next try."""
    return type(error)(error.message, param=error.param, retry_after=retry_after, **error.data)
