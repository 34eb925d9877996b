"""A node over an upstream: one that comes late, goes and comes back, and one that counts only at the end."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from aiohttp import web

from tests.node.conftest import Door, opened_door
from tests.processes import NodeProcess
from tests.rows.test_l1 import wait_until
from tests.rows.test_saf import chat
from tests.waiting import until
from tirami.api.schemas import ChatCompletion, CompletionTokensDetails, ResponseReply
from tirami.core.clock import SystemClock
from tirami.core.errors import EngineFailed, TiramiError
from tirami.infer import UpstreamEngine
from tirami.ledger.breaker import MAX_ERRORS
from tirami.node.choice import Choice
from tirami.proto import Trade
from tirami.testing import EngineProcess

ASKED = chat("hello", 4)


def ready(node: NodeProcess) -> bool:
    """As a balancer asks."""
    try:
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def test_a_node_is_ready_when_its_upstream_comes_and_again_when_it_comes_back(tmp_path: Path) -> None:
    with EngineProcess() as engine:
        engine.kill()
        node = NodeProcess(tmp_path / "home", "--upstream", engine.url)
        node.modelless = True  # it serves before there is a model
        with node, node.client() as client:
            assert not ready(node)
            with pytest.raises(TiramiError) as caught:
                client.chat_completions(ASKED)
            assert (caught.value.code, bool(caught.value.retry_after)) == ("no_model", True)
            for _ in range(2):
                engine.restart()
                wait_until(lambda: ready(node), 40)
                client.chat_completions(ASKED)
                engine.kill()
                for _ in range(MAX_ERRORS + 1):  # more than the breaker bears of engines that fail
                    with pytest.raises(EngineFailed) as away:
                        client.chat_completions(ASKED)
                    assert away.value.retry_after
                assert not ready(node)
        assert node.log().count('"upstream_back"') == 1


@pytest.fixture
async def uncounted() -> AsyncIterator[str]:
    """URL of a server that writes for ever and would tell its usage at the end."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "big"}]})

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n')
            await asyncio.sleep(0.01)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


THOUGHT = [{"reasoning": "Hm"}, {"reasoning": ", well"}, {"content": "Yes"}, {"reasoning": "?"}, {"content": "."}]


@pytest.fixture
async def thinking() -> AsyncIterator[str]:
    """URL of a server that tells reasoning and answer apart, and counts them together."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "big"}]})

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        choices = [{"delta": delta} for delta in THOUGHT] + [{"delta": {}, "finish_reason": "stop"}]
        for choice in choices:
            await response.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        await response.write(b'data: {"usage": {"prompt_tokens": 4, "completion_tokens": 7}}\n\ndata: [DONE]\n\n')
        return response

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


@pytest.mark.parametrize("tools", [False, True])
async def test_reasoning_is_told_beside_the_answer_and_counted_in_it(
    tmp_path: Path, thinking: str, tools: bool
) -> None:
    """It was billed and thrown away: an answer that ended in it was empty, and nothing said where its tokens went."""
    async with opened_door(tmp_path / "home") as door:
        engine = UpstreamEngine(thinking, parameters=10**9, clock=SystemClock())
        await engine.start()
        door.parts.engines.serve(engine)
        body: dict[str, object] = {"model": "big", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
        body |= {"tools": [{"type": "function", "function": {"name": "f"}}]} if tools else {}
        _, whole = await door.call("POST", "/v1/chat/completions", body)
        reply = ChatCompletion.model_validate(whole)
        message = reply.choices[0].message
        assert (message.reasoning_content, message.content) == ("Hm, well?", "Yes.")
        details = CompletionTokensDetails(reasoning_tokens=3)
        assert (reply.usage.completion_tokens, reply.usage.completion_tokens_details) == (7, details)
        assert reply.x_tirami.trm_cost >= 7
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with door.http.post(f"{door.url}/v1/chat/completions", json=asked) as stream:
            lines = [line[6:] for line in (await stream.text()).split("\n") if line.startswith("data: {")]
        events = [json.loads(line) for line in lines]
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        told = [{field: delta[field]} for delta in deltas for field in delta if field != "role" and delta[field]]
        names = {"reasoning": "reasoning_content", "content": "content"}
        assert told == [{names[field]: said for field, said in delta.items()} for delta in THOUGHT]
        assert events[-1]["usage"] == reply.usage.model_dump()
        _, other = await door.call("POST", "/v1/responses", {"model": "big", "input": "Hi"})
        response = ResponseReply.model_validate(other)
        assert response.usage is not None
        assert response.usage.output_tokens_details.reasoning_tokens == 3
        await engine.close()


async def only_trade(door: Door) -> Trade:
    """The one that is booked when nothing is held any more."""
    ledger = door.parts.ledger
    await until(lambda: len(ledger.state.records) and not ledger.state.holds.open)
    trade = ledger.state.records[-1].body
    assert isinstance(trade, Trade)
    return trade


@pytest.mark.parametrize("words", [2, 150], ids=["early", "after vouchers"])
async def test_a_client_that_leaves_before_the_prompt_was_counted_pays_for_it(
    tmp_path: Path, uncounted: str, words: int
) -> None:
    async with opened_door(tmp_path / "home", **{"pricing.prompt_ppm": 1_000_000}) as door:
        engine = UpstreamEngine(uncounted, parameters=10**9, clock=SystemClock())
        await engine.start()
        door.parts.engines.serve(engine)
        body = {"model": "big", "messages": [{"role": "user", "content": "x" * 4_000}], "stream": True}
        async with door.http.post(f"{door.url}/v1/chat/completions", json=body | {"max_tokens": 1_000}) as reply:
            assert reply.status == 200
            for _ in range(words):
                await reply.content.readuntil(b"\n\n")
            reply.close()
        trade = await only_trade(door)
        assert (trade.prompt_tokens, trade.completion_tokens >= words - 1) == (len("user: ") // 4 + 1_000, True)
        assert trade.amount == trade.prompt_tokens + trade.completion_tokens


async def test_whom_the_node_interrupts_while_a_chunk_is_sent_pays_for_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uncounted: str
) -> None:
    """A client that reads slowly holds up the sending: the upstream's stream is not what is waited for."""
    sending, sent = asyncio.Event(), 0

    async def slow(put: Awaitable[None]) -> None:
        nonlocal sent
        sent += 1
        await put
        if sent > 5:
            sending.set()
            await asyncio.Event().wait()

    async with opened_door(tmp_path / "home", **{"pricing.prompt_ppm": 1_000_000}) as door:
        engine = UpstreamEngine(uncounted, parameters=10**9, clock=SystemClock())
        await engine.start()
        door.parts.engines.serve(engine)
        hand_over = Choice.hand_over
        monkeypatch.setattr(Choice, "hand_over", lambda choice, put: hand_over(choice, slow(put)))
        body = {"model": "big", "messages": [{"role": "user", "content": "x" * 4_000}], "stream": True}
        async with door.http.post(f"{door.url}/v1/chat/completions", json=body | {"max_tokens": 1_000}) as reply:
            await sending.wait()
            await door.parts.market.stop()
            assert '"finish_reason":"node_stopped"' in await reply.text()
        trade = await only_trade(door)
        assert trade.prompt_tokens == len("user: ") // 4 + 1_000
