"""The engine room from configuration to lending: what is fetched at the start, what is loaded, what is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.infer.conftest import hub
from tests.infer.ggufs import write_gguf
from tests.infer.hubs import Hub
from tests.node.engines.test_pool import LoadingEngine, Plan
from tests.waiting import until
from tirami.core.config import load_config
from tirami.core.errors import EngineFailed, ModelLoadError, ModelNotFound, NoModel
from tirami.infer import Sampling, Source, UpstreamEngine
from tirami.infer import hub as client
from tirami.infer.sources import HubFile
from tirami.node.engines import EngineRoom, Loader
from tirami.node.engines.supervisor import Sleep
from tirami.testing import EngineProcess
from tirami.testing.clock import ManualClock

__all__ = ["hub"]


@pytest.fixture(autouse=True)
def engines(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, LoadingEngine]:
    """A catalogue of ``one`` and ``two`` on a hub, and engines that only pretend."""
    data = write_gguf(tmp_path / "own.gguf").read_bytes()
    catalogue = {}
    for name in ("one", "two"):
        hub.files[f"/maker/{name}/resolve/main/{name}.gguf"] = data
        catalogue[name] = (Source(HubFile(f"maker/{name}", f"{name}.gguf"), f"{name}.gguf", len(data), None),)
    for place in ("tirami.infer.models", "tirami.node.engines.room"):
        monkeypatch.setattr(f"{place}.CATALOGUE", catalogue)
    made: dict[str, LoadingEngine] = {}

    async def plan(loader: Loader, name: str) -> Plan:
        await asyncio.to_thread(loader._local, name)
        return Plan(made.setdefault(name, LoadingEngine(name)), 10)

    monkeypatch.setattr(Loader, "plan", plan)
    return made


@asynccontextmanager
async def opened(
    tmp_path: Path, clock: ManualClock | None = None, sleep: Sleep = asyncio.sleep, **infer: object
) -> AsyncIterator[EngineRoom]:
    flags = {f"infer.{key}": value for key, value in infer.items()}
    config = load_config(
        None, {}, {"data_dir": tmp_path / "home", "infer.models_dir": str(tmp_path / "models"), **flags}
    )
    room = EngineRoom(config, clock or ManualClock(), sleep)
    yield room
    await room.close()


async def answers(room: EngineRoom, model: str | None, *, any_name: bool = False) -> str:
    async with room.use(model, any_name=any_name) as served:
        return served.engine.card.name


async def test_the_configured_model_is_fetched_and_loaded_and_told_of(tmp_path: Path, hub: Hub) -> None:
    seen: list[tuple[int, int]] = []
    async with opened(tmp_path, model="one") as room:
        with pytest.raises(NoModel, match="no model is configured"):
            await answers(room, None)
        starting = asyncio.create_task(room.start(lambda done, total: seen.append((done, total))))
        await until(lambda: room.loading)
        with pytest.raises(NoModel, match="being loaded") as caught:
            await answers(room, None)
        assert caught.value.retry_after
        await starting
        assert (room.problem, room.loading, room.ready) == (None, False, True)
        assert seen[-1][0] == seen[-1][1] > 0
        assert await answers(room, None) == await answers(room, "one") == "one"
        assert room.engine is not None
    assert hub.methods() == ["HEAD", "GET"]


async def test_further_models_are_fetched_at_the_start_and_loaded_when_asked_for(
    tmp_path: Path, hub: Hub, engines: dict[str, LoadingEngine]
) -> None:
    own = str(tmp_path / "own.gguf")
    async with opened(tmp_path, model="one", models=f"two, {own},") as room:
        await room.start()
        await until(lambda: room.knows("two"))
        assert sorted(engines) == ["one"]
        assert [await answers(room, name) for name in ("two", "own", None)] == ["two", "own", "one"]
        assert sorted(engines) == ["one", "own", "two"]
        for unknown in (own, "three"):
            with pytest.raises(ModelNotFound, match="it has one, own, two"):
                await answers(room, unknown)
            assert await answers(room, unknown, any_name=True) == "one"
    assert hub.methods().count("GET") == 2


async def test_offline_fetches_nothing_at_the_start(tmp_path: Path, hub: Hub) -> None:
    async with opened(tmp_path, model="one", models="two", offline=True) as room:
        await room.start()
        assert "offline" in str(room.problem)
        with pytest.raises(NoModel, match="offline"):
            await answers(room, None)
        with pytest.raises(NoModel):
            await answers(room, "one")
    assert hub.asked == []


async def test_a_start_that_failed_is_tried_again_after_a_while(
    tmp_path: Path, engines: dict[str, LoadingEngine]
) -> None:
    clock = ManualClock()
    engines["one"] = LoadingEngine("one")
    engines["one"].error = ModelLoadError("cannot load one: out of memory")
    async with opened(tmp_path, clock, model="one") as room:
        await room.start()
        assert room.problem == "cannot load one: out of memory"
        engines["one"].error = None
        with pytest.raises(NoModel, match="out of memory") as unnamed:
            await answers(room, None)
        assert unnamed.value.retry_after == 5
        with pytest.raises(ModelLoadError, match="out of memory"):
            await answers(room, "one")
        assert engines["one"].started == 1
        clock.advance(5)
        assert await answers(room, None) == "one"
        assert (room.problem, engines["one"].started) == (None, 2)


async def test_a_model_that_could_not_be_fetched_at_the_start_is_fetched_when_the_hub_is_there(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that boots before its network is up."""
    monkeypatch.setattr(client, "HEAD_LIMIT_S", 0.1)
    monkeypatch.setattr(client, "SILENT_S", 0.0)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0.01)

    hub.silent = True
    async with opened(tmp_path, sleep=sleep, model="one", models="two") as room:
        await room.start()
        assert "the hub does not answer" in str(room.problem)
        await until(lambda: len(pauses) >= 6)
        assert pauses[:6] == [15, 30, 60, 120, 240, 240]
        with pytest.raises(NoModel) as caught:
            await answers(room, None)
        assert caught.value.retry_after
        hub.silent = False
        await until(lambda: room.ready and room.knows("two"))
        assert (room.problem, await answers(room, None)) == (None, "one")


@pytest.mark.parametrize("why", ["wrong file", "given up"])
async def test_a_fetch_that_trying_again_does_not_mend_is_not_repeated(tmp_path: Path, hub: Hub, why: str) -> None:
    async with opened(tmp_path, sleep=briefly, model="one") as room:
        if why == "wrong file":
            hub.etag = "ab" * 32
            await room.start()
        else:
            hub.silent = True
            starting = asyncio.create_task(room.start())
            await until(lambda: room.pulls.running("one"))
            room.pulls.known["one"].given_up.set()
            await starting
        assert room.problem
        asked = len(hub.asked)
        await asyncio.sleep(0.2)
        assert len(hub.asked) == asked


async def test_a_configured_model_that_was_unloaded_comes_back_when_nobody_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path, model="one", models="two") as room:
        await room.start()
        await until(lambda: room.knows("two"))
        await answers(room, "two")
        await room.pool.unload("one")
        assert room.engine is not None
        assert room.engine.card.name == "two"
        assert await answers(room, None) == "one"


async def test_local_models_are_served_beside_an_upstream(tmp_path: Path) -> None:
    with EngineProcess() as process:
        async with opened(tmp_path, upstream_url=process.url, models=str(tmp_path / "own.gguf")) as room:
            await room.start()
            assert await answers(room, None) == await answers(room, "tirami-testing") == "tirami-testing"
            assert await answers(room, "own") == "own"
            assert await answers(room, None) == "tirami-testing"
            assert room.pool.used == 10, "an upstream takes none of this machine's memory"


async def briefly(_: float) -> None:
    await asyncio.sleep(0.01)


async def test_an_upstream_that_comes_late_is_served_and_looked_after(tmp_path: Path) -> None:
    with EngineProcess() as process:
        process.kill()
        flags = {"upstream_url": process.url, "models": str(tmp_path / "own.gguf"), "upstream_context": 777}
        async with opened(tmp_path, sleep=briefly, **flags) as room:
            await room.start()
            assert "does not list its models" in str(room.problem)
            assert not room.ready
            for unknown in (None, "tirami-testing"):
                with pytest.raises(NoModel, match="does not list its models") as caught:
                    await answers(room, unknown)
                assert caught.value.retry_after
            assert await answers(room, "own") == "own", "what is here is served meanwhile"
            await asyncio.to_thread(process.restart)
            await until(lambda: room.problem is None)
            assert room.ready
            assert await answers(room, None) == await answers(room, "tirami-testing") == "tirami-testing"
            assert (await room.card(None)).context_length == 777
            assert room.engine is not None
            process.kill()
            for _ in range(2):  # a connection that was open breaks off, which says nothing of the server; none is made
                with pytest.raises(EngineFailed):
                    async with room.engine.generate(await room.engine.prepare_text("x"), Sampling(1, 0)):
                        pass
            assert not room.engine.status().ready
            with pytest.raises(EngineFailed, match="tirami-testing is not ready: the upstream") as gone:
                await answers(room, None)
            assert gone.value.retry_after
            await asyncio.to_thread(process.restart)
            await until(lambda: room.engine is not None and room.engine.status().ready)


async def test_a_model_here_makes_way_for_the_upstreams_of_its_name_when_nobody_uses_it(
    tmp_path: Path, engines: dict[str, LoadingEngine]
) -> None:
    (tmp_path / "models").mkdir()
    write_gguf(tmp_path / "models" / "tirami-testing.gguf")
    with EngineProcess() as process:
        process.kill()
        async with opened(tmp_path, sleep=briefly, upstream_url=process.url, models="") as room:
            await room.start()
            async with room.use("tirami-testing") as served:
                assert served.engine is engines["tirami-testing"]  # type: ignore[comparison-overlap]
                await asyncio.to_thread(process.restart)
                await until(lambda: "in use" in str(room.problem))
            await until(lambda: room.problem is None)
            assert engines["tirami-testing"].closed == 1
            async with room.use("tirami-testing") as served:
                assert isinstance(served.engine, UpstreamEngine)


async def test_a_room_that_closes_while_it_fetches_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, progress: Callable[[int, int], None]) -> None:
        while True:
            progress(1, 2)
            time.sleep(0.005)

    async with opened(tmp_path, model="one") as room:
        monkeypatch.setattr(room.pulls, "_fetch", fetch)
        starting = asyncio.create_task(room.start())
        await until(lambda: room.pulls.running("one"))
        async with asyncio.timeout(5):
            await room.close()
            await starting
        assert "stopped" in str(room.problem)


async def test_a_cancelled_start_gives_its_download_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, progress: Callable[[int, int], None]) -> None:
        while True:
            progress(1, 2)
            time.sleep(0.005)

    async with opened(tmp_path, model="one") as room:
        monkeypatch.setattr(room.pulls, "_fetch", fetch)
        starting = asyncio.create_task(room.start())
        await until(lambda: room.pulls.running("one"))
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        await until(lambda: not room.pulls.running("one"))


async def test_who_names_no_model_is_answered_here_wherever_one_can_be_had(tmp_path: Path, hub: Hub) -> None:
    async with opened(tmp_path, model="one") as room:
        assert not room.answers(None)
        starting = asyncio.create_task(room.start())
        await until(lambda: room.loading)
        assert room.answers(None)
        await starting
        await room.pool.unload("one")
        assert not room.loaded
        assert room.answers(None) and room.answers("one") and room.answers("gone", any_name=True)
        assert not room.answers("gone")


async def test_a_model_is_crowded_while_whoever_comes_would_wait_for_it(tmp_path: Path, hub: Hub) -> None:
    async with opened(tmp_path, model="one", slots=1) as room:
        assert room.crowded("one") is None, "it is not in memory"
        await room.start()
        async with room.use("one") as served, served.room.place(b"a", owner=False):
            for asked in ({"model": None}, {"model": "one"}, {"model": "gone", "any_name": True}):
                assert room.crowded(**asked) == served.engine.card  # type: ignore[arg-type]
            assert room.crowded("gone") is None
        assert room.crowded("one") is None
