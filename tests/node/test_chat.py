"""Chat over HTTP: what is answered, billed and refused."""

import asyncio
import json

import aiohttp
import openai
import pytest

from tests.node.conftest import Door
from tests.waiting import until

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "say hello now"}]}


async def test_the_owner_needs_no_token_and_the_book_stays_local(door: Door) -> None:
    status, reply = await door.call("POST", CHAT, HELLO)
    assert status == 200
    x = reply["x_tirami"]
    assert (x["trm_cost"], x["effective_balance"], x["provider_effective_balance"]) == (10, -10, 10)
    network = await door.admin("GET", "/v1/tirami/network")
    assert (network["total_trades"], network["local_trades"], network["sum_of_accounts"]) == (0, 1, 0)


async def test_an_agent_pays_and_sees_its_own_balance(door: Door) -> None:
    account, token = await door.agent()
    door.engine.length = 9
    status, reply = await door.call("POST", CHAT, HELLO, token=token, x_tirami_node_id=account)
    assert status == 200
    assert (reply["x_tirami"]["trm_cost"], reply["x_tirami"]["effective_balance"]) == (9, 991)
    assert reply["x_tirami"]["provider_effective_balance"] is None
    _, balance = await door.call("GET", "/v1/tirami/balance", token=token)
    assert (balance["node_id"], balance["effective_balance"], balance["consumed"]) == (account, 991, 9)
    _, trades = await door.call("GET", "/v1/tirami/trades", token=token)
    assert [t["id"] for t in trades["trades"]] == [reply["x_tirami"]["trade_id"]]
    node = door.parts.key.public_key.hex()
    assert (await door.admin("GET", f"/v1/tirami/balance?node={node}"))["effective_balance"] == 1009


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream_carries_the_extension_in_its_last_chunk(door: Door, usage: bool) -> None:
    _, token = await door.agent()
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": usage}}
    async with door.http.post(door.url + CHAT, json=body, headers={"authorization": f"Bearer {token}"}) as reply:
        lines = [line async for line in reply.content if line.strip()]
    assert lines[-1].strip() == b"data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "".join(
        f"{i} " for i in range(10)
    )
    assert chunks[-1]["x_tirami"]["trm_cost"] == 10
    assert (chunks[-1].get("usage") is not None) == usage
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "stop"


async def test_the_official_client(door: Door) -> None:
    _, token = await door.agent()
    async with openai.AsyncOpenAI(base_url=door.url + "/v1", api_key=token) as client:
        answer = await client.chat.completions.create(model="scripted", messages=HELLO["messages"])
        assert answer.choices[0].message.content.startswith("0 1 2")
        stream = await client.chat.completions.create(model="scripted", messages=HELLO["messages"], stream=True)
        assert [c async for c in stream][-1].x_tirami["trm_cost"] == 10
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-4", messages=HELLO["messages"])
        assert caught.value.code == "model_not_found"


async def test_billing_somebody_else_is_refused(door: Door) -> None:
    account, _ = await door.agent()
    _, other = await door.agent()
    for token in (None, other):
        status, reply = await door.call("POST", CHAT, HELLO, token=token, x_tirami_node_id=account)
        assert (status, reply["error"]["code"]) == (403, "foreign_payer")
    status, reply = await door.call("POST", CHAT, HELLO, token=door.parts.admin_token, x_tirami_node_id=account)
    assert status == 200
    status, reply = await door.call("POST", CHAT, HELLO, token=other, x_tirami_node_id="zz")
    assert (status, reply["error"]["param"]) == (400, "x-tirami-node-id")


async def test_a_client_that_leaves_pays_for_what_it_received(door: Door) -> None:
    account, token = await door.agent()
    door.engine.length, door.engine.delay = 5000, 0.002
    body = {**HELLO, "stream": True}
    async with door.http.post(door.url + CHAT, json=body, headers={"authorization": f"Bearer {token}"}) as reply:
        received = 0
        async for line in reply.content:
            received += b'"content"' in line
            if received > 100:
                break
        reply.close()
    for _ in range(100):
        if not door.engine.running and not door.parts.ledger.state.holds.open:
            break
        await asyncio.sleep(0.01)
    assert door.engine.running == 0
    spent = (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"]
    assert 64 <= spent <= 140
    assert (await door.admin("GET", "/v1/tirami/accounts"))["accounts"][0]["account"] == account


async def test_a_client_that_received_nothing_pays_nothing(door: Door) -> None:
    _, token = await door.agent()
    door.engine.stall_after = 5
    headers = {"authorization": f"Bearer {token}"}
    with pytest.raises(TimeoutError):
        async with door.http.post(
            door.url + CHAT, json=HELLO, headers=headers, timeout=aiohttp.ClientTimeout(total=0.2)
        ):
            pass
    await until(lambda: not door.engine.running and not door.parts.ledger.state.holds.open)
    assert (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"] == 0


async def test_an_engine_that_dies_is_503_and_free(door: Door) -> None:
    _, token = await door.agent()
    door.engine.fail_after = 3
    status, reply = await door.call("POST", CHAT, HELLO, token=token)
    assert (status, reply["error"]["code"]) == (503, "engine_failed")
    assert (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"] == 0


async def test_kill_ends_streams_and_refuses_the_next(door: Door) -> None:
    _, token = await door.agent()
    door.engine.length, door.engine.delay = 900, 0.002
    headers = {"authorization": f"Bearer {token}"}
    async with door.http.post(door.url + CHAT, json={**HELLO, "stream": True}, headers=headers) as reply:
        chunks = []
        async for line in reply.content:
            if line.startswith(b"data: {"):
                chunks.append(json.loads(line[6:]))
            if len(chunks) == 100:
                await door.admin("POST", "/v1/tirami/kill", {"activate": True, "reason": "r", "operator": "o"})
    assert chunks[-1]["choices"][0]["finish_reason"] == "killed"
    assert chunks[-1]["x_tirami"]["trm_cost"] <= 100
    status, error = await door.call("POST", CHAT, HELLO, token=token)
    assert (status, error["error"]["code"]) == (423, "kill_switch_active")
    await door.admin("POST", "/v1/tirami/kill", {"activate": False})
    assert (await door.call("POST", CHAT, HELLO, token=token))[0] == 200


async def test_two_hundred_parallel_requests_against_a_budget_for_ten(door: Door) -> None:
    account, token = await door.agent()
    policy = {"node_id": account, "max_cu_per_request": None, "max_cu_per_hour": 100, "max_cu_lifetime": None}
    await door.admin("POST", "/v1/tirami/policy", policy)
    body = {**HELLO, "max_tokens": 10}
    replies = await asyncio.gather(*(door.call("POST", CHAT, body, token=token) for _ in range(200)))
    assert sorted(status for status, _ in replies) == [200] * 10 + [403] * 190
    assert {r["error"]["code"] for status, r in replies if status == 403} == {"budget_exceeded"}
    assert (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"] == 100
