"""A node that stops: what runs is settled and told so, what waits is refused, and nothing stays promised."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette

from tests.market.scripted import ScriptedEngine
from tests.waiting import until
from tirami.core.clock import SystemClock
from tirami.core.config import load_config
from tirami.core.errors import EngineFailed, StorageUnavailable
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import journal_key, local_user_key
from tirami.infer import FinishReason
from tirami.ledger import Ledger
from tirami.market import Settlement
from tirami.node.chat import ChatCall
from tirami.node.http import HttpServer
from tirami.node.node import Node
from tirami.proto import NetworkFile

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "say hello now"}]


def chat_call(node: Node) -> ChatCall:
    owner = node.parts.payers.owner
    return ChatCall(owner, None, MESSAGES, None, 0.7, 1.0, 0, 1, "req-1")


async def streamed(http: aiohttp.ClientSession, url: str) -> tuple[int, list[object]]:
    """Status and events of a stream, read to its end; an error reply is one event."""
    async with http.post(url + CHAT, json={"messages": MESSAGES, "stream": True}) as reply:
        text = await reply.text()
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return reply.status, [event if event == "[DONE]" else json.loads(event) for event in events]


async def whole(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, object]]:
    async with http.post(url + CHAT, json={"messages": MESSAGES}) as reply:
        return reply.status, await reply.json()


async def in_process(node: Node, engine: ScriptedEngine) -> Settlement:
    async with await node.parts.chat.stream(chat_call(node)) as stream:
        async for _ in stream:
            pass
        return await stream.settle()


def left_open(home: Path) -> tuple[int, int, int]:
    """Open holds, trades and imbalance of the journal a node left behind, before anything mends it."""
    key, _ = load_or_create_node_key(next(home.glob("*.key")))
    ledger = Ledger.open(
        home / "journal.db",
        network=NetworkFile.regtest(key.public_key),
        node=key,
        local_user=local_user_key(key).public_key,
        clock=SystemClock(),
        journal_key=journal_key(key),
    )
    state = ledger.state
    ledger._journal.abandon()
    return len(state.holds.open), state.local_totals.trades, state.book.imbalance()


@pytest.mark.parametrize("stall_after", [0, 7, 100])
async def test_a_node_that_stops_settles_what_runs_and_refuses_what_waits(tmp_path: Path, stall_after: int) -> None:
    home = tmp_path / "home"
    values = {"data_dir": str(home), "api.port": 0, "infer.slots": 3, "pricing.prompt_ppm": 0}
    config = load_config(None, {}, {**values, "pricing.follow_load": False})
    engine = ScriptedEngine(length=500)
    engine.stall_after = stall_after
    async with aiohttp.ClientSession() as http:
        async with Node.open(config) as node:
            assert node.url is not None
            node.parts.engines.serve(engine)
            stream = asyncio.create_task(streamed(http, node.url))
            door = asyncio.create_task(in_process(node, engine))
            answer = asyncio.create_task(whole(http, node.url))
            await until(lambda: node.parts.engines.room.running == 3)
            queued = [asyncio.create_task(whole(http, node.url)) for _ in range(3)]
            await until(lambda: engine.running == 3 and node.parts.engines.room.waiting == 3)
            await until(lambda: engine.waiting == 3)
        for status, reply in [await answer, *await asyncio.gather(*queued)]:
            assert (status, reply["error"]["code"]) == (503, "engine_failed")
            assert "stopping" in reply["error"]["message"]
        status, events = await stream
        if stall_after:
            last, end = events[-2:]
            assert end == "[DONE]"
            assert last["choices"][0]["finish_reason"] == "node_stopped"
            assert last["x_tirami"]["trm_cost"] == stall_after
            settlement = await door
            assert (settlement.reason, settlement.cost) == (FinishReason.STOPPED, stall_after)
        else:
            assert (status, events[0]["error"]["code"]) == (503, "engine_failed")
            with pytest.raises(EngineFailed, match="stopping"):
                await door
    assert engine.running == 0
    assert left_open(home) == (0, 2 if stall_after else 0, 0)


async def test_a_consumer_that_never_comes_back_does_not_keep_a_node_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.market.inference.LEAVING_S", 0.1)
    home = tmp_path / "home"
    config = load_config(None, {}, {"data_dir": str(home), "api.port": 0, "pricing.prompt_ppm": 0})
    engine = ScriptedEngine(length=500)
    async with asyncio.timeout(10), Node.open(config, serve=False) as node:
        node.parts.engines.serve(engine)
        stream = await node.parts.chat.stream(chat_call(node))
        chunks = aiter(stream)
        for _ in range(100):
            await anext(chunks)
    assert left_open(home) == (0, 1, 0)
    with pytest.raises(Exception, match="journal"):
        await stream.aclose()
    assert engine.running == 0


async def test_a_node_whose_server_dies_ends_instead_of_running_unheard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, dies, tick = tmp_path / "home", asyncio.Event(), uvicorn.Server.on_tick

    async def dying(server: uvicorn.Server, counter: int) -> bool:
        if dies.is_set():
            raise OSError("scripted")
        return await tick(server, counter)

    monkeypatch.setattr(uvicorn.Server, "on_tick", dying)
    config = load_config(None, {}, {"data_dir": str(home), "api.port": 0, "infer.model": ""})
    async with asyncio.timeout(10), Node.open(config) as node:
        running = asyncio.create_task(node.run_until(asyncio.Event()))
        done, _ = await asyncio.wait([running], timeout=0.3)
        assert not done
        dies.set()
        with pytest.raises(OSError, match="scripted"):
            await running
    assert left_open(home) == (0, 0, 0)


@pytest.mark.parametrize("serve", [True, False])
async def test_a_node_whose_journal_is_written_no_more_ends_instead_of_refusing_every_sale(
    tmp_path: Path, serve: bool
) -> None:
    home = tmp_path / "home"
    config = load_config(None, {}, {"data_dir": str(home), "api.port": 0, "infer.model": ""})
    async with asyncio.timeout(20), Node.open(config, serve=serve) as node:
        running = asyncio.create_task(node.run_until(asyncio.Event()))
        done, _ = await asyncio.wait([running], timeout=0.3)
        assert not done
        assert node.parts.ledger.writable
        writer = node.parts.ledger._journal._writer
        assert writer is not None
        writer.cancel()
        with pytest.raises(StorageUnavailable, match="has to be started again"):
            await running
        assert not node.parts.ledger.writable
    assert left_open(home) == (0, 0, 0)


@pytest.mark.parametrize("serve", [True, False])
async def test_a_node_runs_until_it_is_stopped(tmp_path: Path, serve: bool) -> None:
    config = load_config(None, {}, {"data_dir": str(tmp_path / "home"), "api.port": 0, "infer.model": ""})
    stop = asyncio.Event()
    async with asyncio.timeout(10), Node.open(config, serve=serve) as node:
        running = asyncio.create_task(node.run_until(stop))
        done, _ = await asyncio.wait([running], timeout=0.1)
        assert not done
        stop.set()
        await running


async def test_a_server_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise OSError("scripted")

    monkeypatch.setattr(uvicorn.Server, "startup", fails)
    with pytest.raises(OSError, match="scripted"):
        async with HttpServer(Starlette(), "127.0.0.1", 0):
            pytest.fail("it serves")
