"""Loading on demand: one load for all who wait, the budget kept, nobody in use unloaded, failures told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from tests.market.scripted import CARD, ScriptedEngine
from tests.waiting import until
from tirami.core.errors import Conflict, EngineFailed, ModelLoadError, ModelNotFound, QueueFull, TiramiError
from tirami.node.engines import Pool, Served
from tirami.node.engines import pool as pool_module
from tirami.testing import VirtualClock, run_virtually
from tirami.testing.clock import ManualClock


class LoadingEngine(ScriptedEngine):
    """Starts when told to, and may fail."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.card = replace(CARD, name=name)
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.error: Exception | None = None
        self.started = self.closed = 0

    async def start(self) -> None:
        self.started += 1
        await self.may_start.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1
        await self.may_close.wait()


@dataclass
class Plan:
    engine: LoadingEngine
    cost: int
    really: int = 0

    def measured(self) -> int:
        return self.really


@dataclass
class Shop:
    """Models by name, their costs, and what was made of them."""

    costs: dict[str, int] = field(default_factory=lambda: {"a": 40, "b": 40, "c": 40, "huge": 1000})
    plans: list[Plan] = field(default_factory=list)
    error: dict[str, Exception] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)

    async def plan(self, name: str) -> Plan:
        await asyncio.sleep(0)
        if name not in self.costs:
            raise ModelNotFound(name)
        engine = LoadingEngine(name)
        engine.error = self.error.get(name)
        if name in self.slow:
            engine.may_start.clear()
        self.plans.append(Plan(engine, self.costs[name]))
        return self.plans[-1]

    def made(self, name: str) -> list[LoadingEngine]:
        return [plan.engine for plan in self.plans if plan.engine.card.name == name]

    @property
    def running(self) -> list[str]:
        return sorted(plan.engine.card.name for plan in self.plans if plan.engine.started and not plan.engine.closed)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def pool(shop: Shop, clock: ManualClock) -> AsyncIterator[Pool]:
    pool = Pool(slots=2, queue=3, budget=100, clock=clock, plan=shop.plan)
    yield pool
    await pool.close()
    assert shop.running == []


async def touched(pool: Pool, name: str) -> Served:
    async with pool.use(name) as served:
        return served


@asynccontextmanager
async def kept(pool: Pool, name: str) -> AsyncIterator["asyncio.Event"]:
    """``name`` in use until the event is set."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def keep() -> None:
        async with pool.use(name):
            inside.set()
            await leave.wait()

    keeping = asyncio.create_task(keep())
    await inside.wait()
    yield leave
    leave.set()
    await keeping


async def test_the_first_request_loads_and_the_next_finds_it(pool: Pool, shop: Shop) -> None:
    first, second = await touched(pool, "a"), await touched(pool, "a")
    assert first == second
    assert len(shop.made("a")) == 1
    assert pool.used == 40


async def test_requests_that_come_while_it_loads_wait_for_one_load(pool: Pool, shop: Shop) -> None:
    shop.slow.add("a")
    asked = [asyncio.create_task(touched(pool, "a")) for _ in range(4)]
    await until(lambda: bool(shop.made("a")) and pool.places["a"].users == 4)
    assert not any(task.done() for task in asked)
    shop.made("a")[0].may_start.set()
    assert len({id(served.engine) for served in await asyncio.gather(*asked)}) == 1
    assert len(shop.made("a")) == 1


async def test_too_many_who_wait_for_a_load_are_told_so(pool: Pool, shop: Shop) -> None:
    shop.slow.add("a")
    asked = [asyncio.create_task(touched(pool, "a")) for _ in range(6)]
    with pytest.raises(QueueFull) as caught:
        await next(iter(asyncio.as_completed(asked)))
    assert caught.value.retry_after
    shop.made("a")[0].may_start.set()
    assert sum(isinstance(done, Served) for done in await asyncio.gather(*asked, return_exceptions=True)) == 5


async def entered_after_a_load(pool: Pool, shop: Shop, comers: list[str]) -> list[str]:
    """Who of ``comers`` got a place at the loaded model, in order; ``full`` at the end for each who was told so."""
    shop.slow.add("a")
    entered: list[str] = []
    full: list[str] = []

    async def come(name: str) -> None:
        payer, owner = name[:1].encode(), name == "owner"
        try:
            async with pool.use("a", payer, owner=owner) as served, served.room.place(payer, owner=owner):
                entered.append(name)
        except QueueFull:
            full.append("full")

    tasks = []
    for name in comers:
        tasks.append(asyncio.create_task(come(name)))
        await asyncio.sleep(0)
    await until(lambda: bool(shop.made("a")))
    await asyncio.sleep(0.01)
    shop.made("a")[0].may_start.set()
    await asyncio.gather(*tasks)
    return entered + full


async def test_the_owner_is_first_when_a_load_is_over(pool: Pool, shop: Shop) -> None:
    assert (await entered_after_a_load(pool, shop, ["x1", "x2", "x3", "owner"]))[0] == "owner"


async def test_a_crowd_that_waits_for_a_load_makes_way(pool: Pool, shop: Shop) -> None:
    crowd = [f"x{number}" for number in range(9)]
    assert await entered_after_a_load(pool, shop, [*crowd, "y1", "owner"]) == [
        "owner", "x0", "y1", "x1", "x2", *["full"] * 6,
    ]  # fmt: skip


async def test_others_are_served_while_one_loads(pool: Pool, shop: Shop) -> None:
    await touched(pool, "a")
    shop.slow.add("b")
    loading = asyncio.create_task(touched(pool, "b"))
    await until(lambda: bool(shop.made("b")))
    await touched(pool, "a")
    assert not loading.done()
    shop.made("b")[0].may_start.set()
    await loading


async def test_who_gives_up_waiting_does_not_end_the_load(pool: Pool, shop: Shop) -> None:
    shop.slow.add("a")
    asked = asyncio.create_task(touched(pool, "a"))
    await until(lambda: bool(shop.made("a")))
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    shop.made("a")[0].may_start.set()
    await touched(pool, "a")
    assert len(shop.made("a")) == 1


async def test_the_least_recently_used_idle_model_gives_way(pool: Pool, shop: Shop, clock: ManualClock) -> None:
    for name in ("a", "b", "a"):
        await touched(pool, name)
        clock.advance(1)
    await touched(pool, "c")
    assert shop.running == ["a", "c"]
    assert pool.used == 80
    await touched(pool, "b")
    assert shop.running == ["b", "c"]
    assert len(shop.made("b")) == 2


async def test_a_model_in_use_stays_whoever_comes(pool: Pool, shop: Shop, clock: ManualClock) -> None:
    async with kept(pool, "a"):
        clock.advance(1)
        await touched(pool, "b")
        await touched(pool, "c")
        assert shop.running == ["a", "c"]


async def test_who_needs_memory_in_use_waits_until_it_is_free(pool: Pool, shop: Shop) -> None:
    async with kept(pool, "a") as leave_a, kept(pool, "b"):
        coming = asyncio.create_task(touched(pool, "c"))
        await asyncio.sleep(0.01)
        assert shop.running == ["a", "b"]
        leave_a.set()
        await coming
        assert shop.running == ["b", "c"]


async def test_and_is_told_to_come_again_when_it_is_not(
    pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAKE_ROOM_S", 0.02)
    async with kept(pool, "a"), kept(pool, "b"):
        for _ in range(2):
            with pytest.raises(QueueFull, match="leave no memory for c") as caught:
                await touched(pool, "c")
            assert caught.value.retry_after
        assert shop.running == ["a", "b"]
    await touched(pool, "c")


class SlowShop(Shop):
    """Every load takes 3 s."""

    async def plan(self, name: str) -> Plan:
        plan = await super().plan(name)

        async def start() -> None:
            plan.engine.started += 1
            await asyncio.sleep(3)

        plan.engine.start = start  # type: ignore[method-assign]
        return plan


def test_two_models_asked_for_in_turn_do_not_load_for_every_request() -> None:
    """Each answer takes a second, and the next request for the other model comes with it."""

    async def main() -> tuple[int, float]:
        shop, loop = SlowShop({"a": 60, "b": 60}), asyncio.get_running_loop()
        pool = Pool(slots=2, queue=30, budget=100, clock=VirtualClock(), plan=shop.plan)

        async def ask(name: str, at: float) -> None:
            await asyncio.sleep(at)
            async with pool.use(name):
                await asyncio.sleep(0.1)

        await asyncio.gather(*(ask("ab"[second % 2], second) for second in range(30)))
        took = loop.time()
        await pool.close()
        return len(shop.plans), took

    loads, took = run_virtually(main())
    assert loads <= took / (3 + 6) + 1, "three seconds of loading give six of answers"
    assert took < 60


def test_who_waits_for_one_that_stays_is_told_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAKE_ROOM_S", 1)

    async def main() -> None:
        shop = SlowShop({"a": 60, "b": 60})
        monkeypatch.setattr("tirami.node.engines.budget.STAYS", 10)
        pool = Pool(slots=2, queue=3, budget=100, clock=VirtualClock(), plan=shop.plan)
        await touched(pool, "a")
        with pytest.raises(QueueFull, match="leave no memory for b") as caught:
            await touched(pool, "b")
        assert caught.value.retry_after in (29, 30), "30 s from its load on, of which one was waited"
        await asyncio.sleep(29)
        await touched(pool, "b")
        assert shop.running == ["b"]
        await pool.unload("b")
        await pool.close()

    run_virtually(main())


@pytest.mark.parametrize("step_s", range(1, 12))
def test_a_wait_that_ends_between_two_looks_at_the_clock_ends(step_s: int) -> None:
    """Time goes on while rules are asked: whoever found too little to unload must not find nothing to wait for."""

    class Rising(VirtualClock):
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return super().monotonic() + self.looks * step_s

    async def main() -> None:
        shop = SlowShop({"a": 60, "b": 60})
        pool = Pool(slots=2, queue=3, budget=100, clock=Rising(), plan=shop.plan)
        await touched(pool, "a")
        await touched(pool, "b")
        assert shop.running == ["b"]
        await pool.close()

    run_virtually(main())


async def test_two_loads_at_once_do_not_share_the_same_memory(pool: Pool, shop: Shop) -> None:
    shop.slow |= {"b", "c"}
    await touched(pool, "a")
    coming = [asyncio.create_task(touched(pool, name)) for name in ("b", "c")]
    await until(lambda: sum(engine.started for engine in shop.made("b") + shop.made("c")) == 2)
    assert shop.running == ["b", "c"], "a has gone, and both have their own room"
    for engine in shop.made("b") + shop.made("c"):
        engine.may_start.set()
    await asyncio.gather(*coming)
    assert pool.used == 80


@pytest.mark.parametrize("name", ["a", "b"])
async def test_who_comes_back_while_two_give_way_gets_a_load_of_their_own(pool: Pool, shop: Shop, name: str) -> None:
    """Otherwise the second to go could be used, and ended, while the first one ends."""
    shop.costs["wide"] = 90
    for other in ("a", "b"):
        await touched(pool, other)
    shop.made("a")[0].may_close.clear()
    coming = asyncio.create_task(touched(pool, "wide"))
    await until(lambda: shop.made("a")[0].closed == 1)
    back = asyncio.create_task(touched(pool, name))
    await asyncio.sleep(0.01)
    assert not coming.done()
    assert not back.done()
    shop.made("a")[0].may_close.set()
    await coming
    assert (await back).engine is shop.made(name)[1]
    assert shop.running == [name], "wide was idle and gave way in its turn"


async def test_unloading_takes_a_model_out_before_it_ends(pool: Pool, shop: Shop) -> None:
    await touched(pool, "a")
    shop.made("a")[0].may_close.clear()
    ending = asyncio.create_task(pool.unload("a"))
    await until(lambda: shop.made("a")[0].closed == 1)
    assert (await touched(pool, "a")).engine is shop.made("a")[1]
    shop.made("a")[0].may_close.set()
    await ending


async def test_more_memory_than_there_is_is_refused(pool: Pool, shop: Shop) -> None:
    await touched(pool, "a")
    with pytest.raises(ModelLoadError, match="memory_budget_mib"):
        await touched(pool, "huge")
    assert shop.running == ["a"], "nobody went for one that cannot come"


async def test_what_a_model_takes_indeed_counts(pool: Pool, shop: Shop) -> None:
    await touched(pool, "a")
    shop.plans[0].really = 70
    assert pool.used == 70
    await touched(pool, "b")
    assert shop.running == ["b"]


async def test_a_failed_load_is_told_to_all_who_wait_and_not_tried_again_at_once(
    pool: Pool, shop: Shop, clock: ManualClock
) -> None:
    shop.error["a"] = ModelLoadError("cannot load a: out of memory")
    asked = await asyncio.gather(*(touched(pool, "a") for _ in range(3)), return_exceptions=True)
    assert {str(error) for error in asked} == {"cannot load a: out of memory"}
    for pause in (5, 10, 20):
        with pytest.raises(ModelLoadError, match="out of memory") as caught:
            await touched(pool, "a")
        assert caught.value.retry_after == pause
        tries = len(shop.made("a"))
        clock.advance(pause)
        with pytest.raises(ModelLoadError):
            await touched(pool, "a")
        assert len(shop.made("a")) == tries + 1
    assert pool.used == 0
    assert isinstance(pool.failure("a"), ModelLoadError)
    clock.advance(1000)
    shop.error.clear()
    await touched(pool, "a")
    assert pool.failure("a") is None


async def test_a_failure_of_one_is_none_of_another(pool: Pool, shop: Shop) -> None:
    shop.error["a"] = ModelLoadError("broken")
    with pytest.raises(ModelLoadError):
        await touched(pool, "a")
    await touched(pool, "b")


async def test_an_operating_system_that_refuses_is_a_failed_load(pool: Pool, shop: Shop) -> None:
    shop.error["a"] = OSError(24, "Too many open files")
    with pytest.raises(ModelLoadError, match="Too many open files"):
        await touched(pool, "a")


async def test_a_name_nobody_knows(pool: Pool) -> None:
    with pytest.raises(ModelNotFound):
        await touched(pool, "nothing")
    assert not pool.places


async def test_unloading_ends_an_idle_engine_and_refuses_a_busy_one(pool: Pool, shop: Shop) -> None:
    async with kept(pool, "a"):
        with pytest.raises(Conflict):
            await pool.unload("a")
    await pool.unload("a")
    await pool.unload("a")
    assert shop.running == []
    assert not pool.places


async def test_loading_ahead_of_a_request(pool: Pool, shop: Shop) -> None:
    shop.slow.add("a")
    pool.load("a")
    pool.load("a")
    await until(lambda: bool(shop.made("a")))
    with pytest.raises(Conflict):
        await pool.unload("a")
    shop.made("a")[0].may_start.set()
    await until(lambda: pool.latest() == "a")
    assert len(shop.made("a")) == 1


async def test_a_node_that_stops_tells_who_waits(pool: Pool, shop: Shop) -> None:
    shop.slow.add("a")
    asked = asyncio.create_task(touched(pool, "a"))
    await until(lambda: bool(shop.made("a")))
    await pool.stop_loading()
    with pytest.raises(EngineFailed, match="stopping"):
        await asked
    with pytest.raises(EngineFailed, match="stopping"):
        await touched(pool, "a")
    assert shop.running == []


async def test_a_crowd_over_few_models_never_breaks_the_budget(pool: Pool, shop: Shop) -> None:
    seen: list[int] = []

    async def ask(i: int) -> TiramiError | None:
        try:
            async with pool.use("abc"[i % 3]) as served:
                assert served.engine.card.name == "abc"[i % 3]
                assert served.engine in [p.engine for p in shop.plans if not p.engine.closed]
                await asyncio.sleep(0.001 * (i % 4))
                seen.append(len(shop.running))
        except QueueFull as error:
            return error
        return None

    for _ in range(10):
        await asyncio.gather(*(ask(i) for i in range(12)))
        assert pool.used <= pool.budget
    assert max(seen) <= 2


async def test_full_is_what_takes_nobody_more(pool: Pool) -> None:
    assert not pool.occupancy.full
    one = await touched(pool, "a")
    waiting = []
    async with one.room.place(b"x", owner=False), one.room.place(b"y", owner=False):
        assert not pool.occupancy.full
        for number in range(3):
            waiting.append(asyncio.create_task(one.room.place(bytes([number]), owner=False).__aenter__()))
        await asyncio.sleep(0)
        assert pool.occupancy.full
        await touched(pool, "b")
        assert not pool.occupancy.full, "the other model takes some"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_occupancy_is_the_sum_of_the_rooms(pool: Pool) -> None:
    one, two = await touched(pool, "a"), await touched(pool, "b")
    assert (pool.occupancy.running, pool.occupancy.waiting, pool.occupancy.slots) == (0, 0, 4)
    async with one.room.place(b"x", owner=False), two.room.place(b"x", owner=False):
        assert pool.occupancy.running == 2
