"""Models over HTTP: what may be named, what is fetched, loaded, unloaded and deleted, and who may do it."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infer.conftest import hub
from tests.infer.ggufs import write_gguf
from tests.infer.hubs import Hub
from tests.node.conftest import Door, opened_door
from tests.node.engines.test_pool import LoadingEngine, Plan
from tests.waiting import until
from tirami.api import OPERATIONS
from tirami.core.errors import ModelLoadError
from tirami.infer import ModelCard, Source
from tirami.infer.sources import HubFile
from tirami.node.engines import Loader

__all__ = ["hub"]
MODELS, OURS, CHAT = "/v1/models", "/v1/tirami/models", "/v1/chat/completions"


@pytest.fixture
def tiny(tmp_path: Path, hub: Hub) -> bytes:
    data = write_gguf(tmp_path / "source.gguf").read_bytes()
    hub.files["/maker/tiny/resolve/main/tiny.gguf"] = data
    return data


@pytest.fixture
def engines() -> dict[str, LoadingEngine]:
    return {}


@pytest.fixture
async def shop(
    tmp_path: Path, tiny: bytes, engines: dict[str, LoadingEngine], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    """A node that serves ``scripted``, has ``mine`` installed, and knows ``tiny`` and ``gone`` of a catalogue."""
    catalogue = {
        name: (Source(HubFile(f"maker/{name}", f"{name}.gguf"), f"{name}.gguf", len(tiny), None),)
        for name in ("tiny", "gone")
    }
    for place in ("tirami.infer.models", "tirami.node.models", "tirami.node.engines.room"):
        monkeypatch.setattr(f"{place}.CATALOGUE", catalogue)

    async def plan(loader: Loader, name: str) -> Plan:
        await asyncio.to_thread(loader._local, name)
        engine = engines.setdefault(name, LoadingEngine(name))
        engine.closed = 0
        return Plan(engine, 10)

    monkeypatch.setattr(Loader, "plan", plan)
    (tmp_path / "models").mkdir()
    write_gguf(tmp_path / "models" / "mine.gguf")
    async with opened_door(tmp_path / "home", **{"infer.models_dir": str(tmp_path / "models")}) as door:
        yield door
        await door.parts.engines.close()


async def change(door: Door, model: str, action: str) -> tuple[int, dict[str, Any]]:
    return await door.call("POST", OURS, {"model": model, "action": action}, token=door.parts.admin_token)


async def delete(door: Door, model: str) -> tuple[int, dict[str, Any]]:
    return await door.call("DELETE", f"{OURS}?model={model}", token=door.parts.admin_token)


async def row(door: Door, model: str) -> dict[str, Any]:
    _, listed = await door.call("GET", OURS)
    rows: list[dict[str, Any]] = listed["models"]  # type: ignore[assignment]
    return next(entry for entry in rows if entry["model"] == model)


async def reaches(door: Door, model: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (entry := await row(door, model))["state"] != state:
            await asyncio.sleep(0.01)
    return entry


async def ask(door: Door, model: str | None, **more: object) -> tuple[int, dict[str, Any]]:
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, **more}
    return await door.call("POST", CHAT, body if model is None else {**body, "model": model})


async def test_a_request_may_name_what_is_loaded_or_installed(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    _, listed = await shop.call("GET", MODELS)
    data: Any = listed["data"]
    assert [(entry["id"], entry["state"]) for entry in data] == [("scripted", "loaded"), ("mine", "installed")]
    assert all(entry["price_out_utrm"] > 0 and entry["context_length"] > 0 for entry in data)
    assert len(data[1]["digest"]) == 64
    assert data[1]["size_bytes"] > 0
    assert not engines, "looking loads nothing"
    status, answer = await ask(shop, "mine")
    assert (status, answer["model"]) == (200, "mine")
    _, entry = await shop.call("GET", f"{MODELS}/mine")
    assert entry["state"] == "loaded"
    status, answer = await ask(shop, None)
    assert (status, answer["model"]) == (200, "scripted")


@pytest.mark.parametrize("model", ["nothing", "gone", "tiny", "../models/mine", "mine.gguf", ""])
async def test_a_request_fetches_nothing_and_names_no_path(shop: Door, hub: Hub, tmp_path: Path, model: str) -> None:
    for name in (model, str(tmp_path / "models" / "mine.gguf")):
        status, reply = await ask(shop, name)
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
        assert "it has mine, scripted" in reply["error"]["message"]
        assert ("tirami models pull" in reply["error"]["message"]) == (name in ("gone", "tiny"))
    assert hub.asked == []


async def test_with_the_originals_dialect_any_name_is_answered(shop: Door) -> None:
    for asked, answered in (("nothing", "scripted"), ("mine", "mine")):
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "model": asked}
        status, answer = await shop.call("POST", CHAT, body, x_tirami_compat="forge")
        assert (status, answer["model"]) == (200, answered)


async def test_a_failed_load_is_told_with_a_time_to_come_again(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    engines["mine"] = LoadingEngine("mine")
    engines["mine"].error = ModelLoadError("cannot load mine: out of memory")
    for _ in range(2):
        async with shop.http.post(
            shop.url + CHAT, json={"model": "mine", "messages": [{"role": "user", "content": "x"}]}
        ) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (503, "model_load_failed")
            assert int(reply.headers["retry-after"]) >= 1
    assert engines["mine"].started == 1
    assert (await row(shop, "mine"))["problem"] == "cannot load mine: out of memory"
    assert (await ask(shop, "scripted"))[0] == 200


async def test_pulling(shop: Door, hub: Hub, tiny: bytes) -> None:
    before = await row(shop, "tiny")
    assert (before["state"], before["digest"], before["size_bytes"]) == ("available", None, len(tiny))
    status, report = await change(shop, "tiny", "pull")
    assert (status, report["model"]) == (202, "tiny")
    after = await reaches(shop, "tiny", "installed")
    assert after["digest"] == hashlib.sha256(tiny).hexdigest()
    assert (after["problem"], after["fetch"]) == (None, None)
    assert hub.methods() == ["HEAD", "GET"]
    assert (await change(shop, "tiny", "pull"))[0] == 202
    assert (await ask(shop, "tiny"))[0] == 200
    assert hub.methods() == ["HEAD", "GET"]


async def test_a_pull_that_fails_says_why(shop: Door) -> None:
    assert (await change(shop, "gone", "pull"))[0] == 202
    async with asyncio.timeout(10):
        while (entry := await row(shop, "gone"))["state"] == "fetching":
            await asyncio.sleep(0.01)
    assert entry["state"] == "available"
    assert "404" in entry["problem"]


async def slow_pull(shop: Door, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A pull that stands after some bytes until it is let go."""
    go = threading.Event()

    def fetch(name: str, progress: Any) -> None:
        while not go.wait(0.005):
            progress(50, 100)
        raise ModelLoadError("was let go")

    monkeypatch.setattr(shop.parts.engines.pulls, "_fetch", fetch)
    assert (await change(shop, "tiny", "pull"))[1]["state"] == "fetching"
    return go.set


async def test_a_pull_shows_its_bytes_and_runs_once(shop: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = await slow_pull(shop, monkeypatch)
    async with asyncio.timeout(10):
        while (await row(shop, "tiny"))["fetch"] != {"bytes_done": 50, "bytes_total": 100}:
            await asyncio.sleep(0.01)
    pull = shop.parts.engines.pulls.known["tiny"]
    await change(shop, "tiny", "pull")
    assert shop.parts.engines.pulls.known["tiny"] is pull
    status, reply = await ask(shop, "tiny")
    assert (status, reply["error"]["code"]) == (503, "no_model")
    assert "being fetched" in reply["error"]["message"]
    let_go()
    await reaches(shop, "tiny", "available")


async def test_deleting_ends_a_pull(shop: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await slow_pull(shop, monkeypatch)
    status, reply = await delete(shop, "tiny")
    assert (status, reply["error"]["code"]) == (404, "model_not_found"), "it had brought no file yet"
    assert (await row(shop, "tiny"))["state"] == "available"


async def test_a_node_that_stops_ends_a_pull(shop: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await slow_pull(shop, monkeypatch)
    async with asyncio.timeout(5):
        await shop.parts.engines.stop()
    assert not shop.parts.engines.pulls.running("tiny")


async def test_loading_and_unloading(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    status, report = await change(shop, "mine", "load")
    assert status == 202
    assert report["state"] in ("loading", "loaded")
    loaded = await reaches(shop, "mine", "loaded")
    assert loaded["memory_bytes"] == 10
    _, listed = await shop.call("GET", OURS)
    assert listed["memory_used_bytes"] == 10 <= listed["memory_budget_bytes"]  # type: ignore[operator]
    assert (await change(shop, "mine", "unload"))[1]["state"] == "installed"
    assert engines["mine"].closed == 1
    for action in ("load", "unload"):
        status, reply = await change(shop, "nothing", action)
        assert (status, reply["error"]["code"]) == (404, "model_not_found")


async def test_what_is_in_use_is_neither_unloaded_nor_deleted(
    shop: Door, engines: dict[str, LoadingEngine], tmp_path: Path
) -> None:
    engines["mine"] = LoadingEngine("mine")
    engines["mine"].stall_after = 1
    answer = asyncio.create_task(ask(shop, "mine"))
    await engines["mine"].stalled.wait()
    assert (await row(shop, "mine"))["users"] == 1
    for status, reply in (await change(shop, "mine", "unload"), await delete(shop, "mine")):
        assert (status, reply["error"]["code"]) == (409, "conflict")
    assert (tmp_path / "models" / "mine.gguf").exists()
    engines["mine"].resume.set()
    assert (await answer)[0] == 200
    status, removed = await delete(shop, "mine")
    assert status == 200
    assert removed["freed_bytes"] > 0
    assert engines["mine"].closed == 1
    assert not (tmp_path / "models" / "mine.gguf").exists()
    assert (await ask(shop, "mine"))[0] == 404
    assert (await delete(shop, "mine"))[0] == 404


async def test_nobody_loads_a_model_that_is_being_deleted(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    assert (await ask(shop, "mine"))[0] == 200
    engines["mine"].may_close.clear()
    deleting = asyncio.create_task(delete(shop, "mine"))
    await until(lambda: engines["mine"].closed == 1)
    (status, reply), (again, _) = await ask(shop, "mine"), await delete(shop, "mine")
    engines["mine"].may_close.set()
    assert (status, reply.get("error", {}).get("code"), again) == (404, "model_not_found", 409)
    assert (await deleting)[0] == 200
    assert engines["mine"].started == 1
    assert "mine" not in shop.parts.engines.pool.places


async def test_deleting_an_upstreams_or_a_strange_name_deletes_nothing(shop: Door, tmp_path: Path) -> None:
    for name in ("nothing", "..%2Fsource", str(tmp_path / "source.gguf"), "source"):
        assert (await delete(shop, name))[0] == 404
    assert (tmp_path / "source.gguf").exists()
    for status, _ in (await delete(shop, "scripted"), await change(shop, "scripted", "unload")):
        assert status in (404, 409)
    assert (await ask(shop, "scripted"))[0] == 200, "an engine that is not ours to load again stays"


async def test_only_an_administrator_changes_models(shop: Door, hub: Hub) -> None:
    for scope in ("read_only", "inference", "economy"):
        _, token = await shop.agent(scope)
        for method, path, body in (
            ("POST", OURS, {"model": "tiny", "action": "pull"}),
            ("DELETE", f"{OURS}?model=mine", None),
        ):
            status, _ = await shop.call(method, path, body, token=token)
            assert status == 403
        assert (await shop.call("GET", OURS, token=token))[0] == 200
    assert (await shop.call("POST", OURS, {"model": "tiny", "action": "pull"}))[0] == 403
    assert hub.asked == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "tiny"}, "action"),
        ({"model": "tiny", "action": "eat"}, "action"),
        ({"action": "pull"}, "model"),
        ({"model": "", "action": "pull"}, "model"),
        ({"model": "x" * 300, "action": "pull"}, "model"),
        ({"model": 7, "action": "pull"}, "model"),
    ],
)
async def test_a_wrong_shape_names_its_field(shop: Door, body: object, param: str) -> None:
    status, reply = await shop.call("POST", OURS, body, token=shop.parts.admin_token)
    assert (status, reply["error"]["param"]) == (422, param)


async def test_a_name_the_catalogue_does_not_have_is_not_pulled(shop: Door, hub: Hub) -> None:
    status, reply = await change(shop, "gpt-9", "pull")
    assert (status, reply["error"]["code"]) == (404, "model_not_found")
    assert "tiny, gone" in reply["error"]["message"]
    assert hub.asked == []


async def test_a_file_that_is_no_model_is_listed_with_its_problem_and_not_offered(shop: Door, tmp_path: Path) -> None:
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF no more")
    found = await row(shop, "broken")
    assert "cannot load broken.gguf" in found["problem"]
    assert (found["state"], found["digest"], found["size_bytes"]) == ("installed", None, 12)
    _, listed = await shop.call("GET", MODELS)
    assert "broken" not in [entry["id"] for entry in listed["data"]]  # type: ignore[union-attr,index]


async def test_status_and_health_speak_of_all_models(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    engines["mine"] = LoadingEngine("mine")
    engines["mine"].stall_after = 1
    answer = asyncio.create_task(ask(shop, "mine"))
    await engines["mine"].stalled.wait()
    _, status = await shop.call("GET", "/status")
    engine: Any = status["engine"]
    assert (engine["model"], sorted(engine["models"])) == ("scripted", ["mine", "scripted"])
    assert (engine["slots"], engine["busy"]) == (16, 1)
    assert shop.parts.engines.room.running == 1
    engines["mine"].resume.set()
    await answer
    assert (await change(shop, "mine", "unload"))[0] == 202
    assert (await shop.call("GET", "/health"))[1]["model_loaded"] is True
    assert (await shop.call("GET", "/status"))[1]["engine"]["models"] == ["scripted"]  # type: ignore[index]


async def test_a_file_that_is_being_hashed_keeps_nobody_waiting(
    shop: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.node.engines.room.DESCRIBING_S", 0.05)
    go, describe = threading.Event(), Loader.describe

    def slowly(loader: Loader, name: str) -> ModelCard:
        if name == "big":
            go.wait(10)
        return describe(loader, name)

    monkeypatch.setattr(Loader, "describe", slowly)
    write_gguf(tmp_path / "models" / "big.gguf")
    async with asyncio.timeout(3):
        _, listed = await shop.call("GET", MODELS)
        assert [entry["id"] for entry in listed["data"]] == ["scripted", "mine"]  # type: ignore[union-attr,index]
        assert (await shop.call("GET", f"{MODELS}/mine"))[0] == 200
        found = await row(shop, "big")
    assert (found["state"], found["digest"], found["problem"]) == ("installed", None, None)
    asked = asyncio.create_task(shop.call("GET", f"{MODELS}/big"))
    go.set()
    assert (await asked)[0] == 200
    _, listed = await shop.call("GET", MODELS)
    assert len(listed["data"]) == 3  # type: ignore[arg-type]


async def test_a_node_whose_queue_is_full_is_not_ready(shop: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await shop.call("GET", "/readyz"))[1]["components"]["queue"] is True  # type: ignore[index]
    shop.engine.stall_after = 0
    monkeypatch.setattr(shop.parts.engines.pool.places["scripted"].room, "_capacity", 2)
    crowd = [asyncio.create_task(ask(shop, "scripted")) for _ in range(shop.parts.config.infer.slots + 2)]
    await until(lambda: shop.parts.engines.room.full)
    status, ready = await shop.call("GET", "/readyz")
    assert (status, ready["components"]["queue"]) == (503, False)  # type: ignore[index]
    assert (await shop.call("GET", "/health"))[0] == 200
    shop.engine.resume.set()
    await asyncio.gather(*crowd)
    assert (await shop.call("GET", "/readyz"))[0] == 200


async def test_asking_who_serves_a_model_loads_none(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    before = set(shop.parts.engines.pool.places)
    schedule = {"model_id": "mine", "max_tokens": 5}
    _, token = await shop.agent("read_only")
    for method, path, body in (
        ("GET", "/v1/tirami/route?model=mine", None),
        ("POST", "/v1/tirami/schedule", schedule),
    ):
        status, reply = await shop.call(method, path, body, token=token)
        assert (status, reply.get("model") or reply.get("model_id")) == (200, "mine"), reply
    status, reply = await shop.call("GET", "/v1/tirami/route?model=tiny")
    assert (status, reply["error"]["code"]) == (404, "model_not_found")
    assert engines == {}
    assert set(shop.parts.engines.pool.places) == before


async def test_a_model_whose_load_has_just_failed_is_not_recommended(
    shop: Door, engines: dict[str, LoadingEngine]
) -> None:
    engines["mine"] = LoadingEngine("mine")
    engines["mine"].error = ModelLoadError("cannot load mine: out of memory")
    await ask(shop, "mine")
    status, reply = await shop.call("GET", "/v1/tirami/route?model=mine")
    assert (status, reply["error"]["code"]) == (503, "model_load_failed")


async def test_no_get_changes_anything(shop: Door, engines: dict[str, LoadingEngine]) -> None:
    """Over the whole table, by an administrator, who may see everything. A head over what is booked is signed once."""
    assert (await ask(shop, "scripted"))[0] == 200
    await shop.agent()
    admin = shop.parts.admin_token
    await shop.call("GET", "/v1/tirami/log/head", token=admin)
    _, trades = await shop.call("GET", "/v1/tirami/trades", token=admin)
    trade: Any = trades["trades"]

    def state() -> object:
        ledger, pool = shop.parts.ledger, shop.parts.engines.pool
        tokens = {hashed: token.expires_ms for hashed, token in ledger.state.settings.tokens.items()}
        return ledger.seq, set(pool.places), tokens

    before, headers = state(), {"authorization": f"Bearer {admin}"}
    for operation in OPERATIONS:
        if operation.method != "GET":
            continue
        path = operation.path.format(id=trade[0]["id"], model="mine")
        queries = {"log_consistency": "first=1&second=1", "route": "model=mine"}
        for query in {"", queries.get(operation.name, "")}:
            async with shop.http.get(f"{shop.url}{path}?{query}", headers=headers) as reply:
                await reply.read()
                expected = {"fraud": (404,)}.get(operation.name, (422, 200) if operation.query else (200,))
                assert reply.status in expected, (operation.name, reply.status)
        assert state() == before, operation.name
    assert engines == {}


async def test_a_waiting_room_belongs_to_one_model(
    tmp_path: Path, shop: Door, engines: dict[str, LoadingEngine]
) -> None:
    engines["mine"] = LoadingEngine("mine")
    engines["mine"].stall_after = 0
    crowd = [asyncio.create_task(ask(shop, "mine")) for _ in range(12)]
    await until(lambda: shop.parts.engines.room.waiting == 4)
    assert (await ask(shop, "scripted"))[0] == 200
    engines["mine"].resume.set()
    assert {status for status, _ in await asyncio.gather(*crowd)} == {200}
