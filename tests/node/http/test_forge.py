"""The original's dialect, by configuration or by header: ``x_forge``, integer codes, any model name."""

import json
from pathlib import Path

import pytest

from tests.node.conftest import Door, door, opened_door

__all__ = ["door"]
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "x"}], "model": "gpt-4"}


async def check_forge(door: Door, headers: dict[str, str]) -> None:
    status, reply = await door.call("POST", CHAT, HELLO, **headers)
    assert status == 200
    ours = reply["x_tirami"]
    assert reply["x_forge"] == {"cu_cost": ours["trm_cost"], "effective_balance": ours["effective_balance"]}
    async with door.http.post(door.url + CHAT, json={**HELLO, "stream": True}, headers=headers) as stream:
        chunks = [json.loads(line[6:]) async for line in stream.content if line.startswith(b"data: {")]
    assert chunks[-1]["x_forge"]["cu_cost"] == chunks[-1]["x_tirami"]["trm_cost"]
    status, reply = await door.call("POST", CHAT, {}, **headers)
    assert (status, reply["error"]["code"], reply["error"]["status"]) == (400, 400, 400)


async def test_by_header(door: Door) -> None:
    await check_forge(door, {"x-tirami-compat": "forge"})


async def test_by_configuration(tmp_path: Path) -> None:
    async with opened_door(tmp_path / "home", **{"api.compat": "forge"}) as door:
        await check_forge(door, {})


@pytest.mark.parametrize("stream", [True, False])
async def test_otherwise_nothing_of_it(door: Door, stream: bool) -> None:
    body = {"messages": HELLO["messages"], "stream": stream}
    async with door.http.post(door.url + CHAT, json=body) as reply:
        text = await reply.text()
    assert "x_tirami" in text
    assert "x_forge" not in text
    assert (await door.call("POST", CHAT, HELLO))[1]["error"]["code"] == "model_not_found"
