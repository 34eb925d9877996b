"""Everything malformed gets one clear envelope that names the field; nothing is lost or charged."""

import asyncio
import json

import pytest

from tests.node.conftest import Door, door
from tests.waiting import until

__all__ = ["door"]
CHAT = "/v1/chat/completions"
MESSAGE = {"role": "user", "content": "hi"}


async def raw(door: Door, path: str, data: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    sent = {"content-type": "application/json", "authorization": f"Bearer {door.parts.admin_token}", **headers}
    async with door.http.post(door.url + path, data=data, headers=sent) as reply:
        return reply.status, (await reply.json(content_type=None))["error"]


def check_envelope(error: dict[str, object], status: int) -> None:
    assert {"message", "type", "code", "param", "request_id", "status"} <= set(error)
    assert error["status"] == status


BAD_JSON = [
    b"",
    b"{",
    b"[1,2",
    b'{"messages": NaN}',
    b'{"a": 1, "a": 2}',
    b'{"messages": "\xff\xfe"}',
    b"\x00\x01",
    b"[" * 100_000,
    b"1" * 5_000,
]


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
@pytest.mark.parametrize("path", [CHAT, "/v1/tirami/kill"])
async def test_malformed_json(door: Door, path: str, data: bytes) -> None:
    status, error = await raw(door, path, data)
    check_envelope(error, status)
    assert status in (400, 413, 422)
    assert error["code"] in ("malformed_json", "invalid_request", "invalid_field", "body_too_large")


BAD_CHATS: list[tuple[dict[str, object], str]] = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [MESSAGE], "max_tokens": -1}, "max_tokens"),
    ({"messages": [MESSAGE], "max_tokens": 0}, "max_tokens"),
    ({"messages": [MESSAGE], "max_tokens": "ten"}, "max_tokens"),
    ({"messages": [MESSAGE], "max_tokens": 1.5}, "max_tokens"),
    ({"messages": [MESSAGE], "max_tokens": 10**400}, "max_tokens"),
    ({"messages": [MESSAGE], "max_tokens": 10**9}, "max_tokens"),
    ({"messages": [MESSAGE], "temperature": -0.1}, "temperature"),
    ({"messages": [MESSAGE], "temperature": 1e308}, "temperature"),
    ({"messages": [MESSAGE], "temperature": "hot"}, "temperature"),
    ({"messages": [MESSAGE], "top_p": -0.1}, "top_p"),
    ({"messages": [MESSAGE], "stream": "yes"}, "stream"),
    ({"messages": [MESSAGE], "seed": 2**63}, "seed"),
    ({"messages": [MESSAGE], "seed": -(2**63) - 1}, "seed"),
    ({"messages": [MESSAGE], "seed": 1.5}, "seed"),
    ({"messages": [MESSAGE], "n": 9}, "n"),
    ({"messages": [MESSAGE], "tools": [{"type": "function"}]}, "tools.0.function"),
    ({"messages": [MESSAGE], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"messages": [MESSAGE], "nonsense": 1}, "nonsense"),
]


@pytest.mark.parametrize(("body", "param"), BAD_CHATS, ids=range(len(BAD_CHATS)))
async def test_a_bad_chat_names_its_field_and_costs_nothing(door: Door, body: dict[str, object], param: str) -> None:
    _, token = await door.agent()
    status, reply = await door.call("POST", CHAT, body, token=token)
    check_envelope(reply["error"], 400)
    assert status == 400
    assert reply["error"]["param"] == param
    _, balance = await door.call("GET", "/v1/tirami/balance", token=token)
    assert (balance["consumed"], balance["reserved"]) == (0, 0)
    assert not door.parts.ledger.state.holds.open


TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"type": "function", "id": "1", "function": {"name": "f", "arguments": "{}"}}
FLAT = {"type": "function", "name": "f"}
SCHEMA = {"type": "json_schema"}
INCONSISTENT: list[tuple[str, dict[str, object], str]] = [
    ("chat/completions", {"top_logprobs": 2}, "top_logprobs"),
    ("chat/completions", {"tools": [TOOL], "logprobs": True}, "logprobs"),
    ("chat/completions", {"tools": [TOOL, TOOL]}, "tools"),
    ("chat/completions", {"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
    ("chat/completions", {"tool_choice": "required"}, "tool_choice"),
    ("chat/completions", {"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ("chat/completions", {"response_format": SCHEMA}, "response_format.json_schema.schema"),
    ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
    ("chat/completions", {"messages": [MESSAGE, {**MESSAGE, "tool_calls": [CALL]}]}, "messages.1.tool_calls"),
    ("completions", {"prompt": ["x"] * 3, "n": 4}, "prompt"),
    ("completions", {"prompt": [1, 2], "echo": True}, "echo"),
    ("completions", {"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
    ("responses", {"input": [{"role": "user", "content": "x"}, {"role": "user"}]}, "input.1.content"),
    ("responses", {"input": [{"type": "function_call", "call_id": "1", "name": "f"}]}, "input.0.arguments"),
    ("responses", {"input": [{"type": "function_call_output", "output": "1"}]}, "input.0.call_id"),
    ("responses", {"input": 5}, "input"),
    ("responses", {"text": {"format": SCHEMA}}, "text.format.schema"),
    ("responses", {"tools": [FLAT, FLAT]}, "tools"),
    ("responses", {"tools": [FLAT], "text": {"format": {"type": "json_object"}}}, "text.format"),
    ("responses", {"tool_choice": "required"}, "tool_choice"),
    ("responses", {"tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
    ("embeddings", {"input": [[1, -2]]}, "input.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), INCONSISTENT, ids=range(len(INCONSISTENT)))
async def test_fields_that_contradict_each_other_are_named(
    door: Door, path: str, body: dict[str, object], param: str
) -> None:
    whole: dict[str, object] = {"messages": [MESSAGE]} if path.startswith("chat") else {"input": "x"}
    if path == "completions":
        whole = {}
    status, reply = await door.call("POST", f"/v1/{path}", whole | body)
    assert (status, reply["error"]["param"]) == (400, param)
    assert reply["error"]["message"].startswith(param)


BAD_TIRAMI: list[tuple[str, dict[str, object], str]] = [
    ("/v1/tirami/kill", {}, "activate"),
    ("/v1/tirami/kill", {"activate": "true"}, "activate"),
    ("/v1/tirami/transfer", {"to": "00" * 32, "amount": -5}, "amount"),
    ("/v1/tirami/transfer", {"to": "00" * 32, "amount": 2**64}, "amount"),
    ("/v1/tirami/transfer", {"to": "zz", "amount": 5}, "to"),
    ("/v1/tirami/policy", {"node_id": "00" * 32, "max_cu_per_hour": -1}, "max_cu_per_hour"),
    ("/v1/tirami/policy", {"node_id": "00" * 32, "human_approval_threshold": -1}, "human_approval_threshold"),
    ("/v1/tirami/policy", {"node_id": "00" * 32, "max_spends_per_minute": "30"}, "max_spends_per_minute"),
    (f"/v1/tirami/approvals/{'00' * 32}/approve", {"operator": 5}, "operator"),
    ("/v1/tirami/tokens/issue", {"scope": "root"}, "scope"),
    ("/v1/tirami/tokens/issue", {"scope": "admin", "label": "x" * 200}, "label"),
]


@pytest.mark.parametrize(("path", "body", "param"), BAD_TIRAMI, ids=range(len(BAD_TIRAMI)))
async def test_a_bad_tirami_body_is_422(door: Door, path: str, body: dict[str, object], param: str) -> None:
    seq = door.parts.ledger.seq
    status, reply = await door.call("POST", path, body, token=door.parts.admin_token)
    check_envelope(reply["error"], 422)
    assert (status, reply["error"]["param"]) == (422, param)
    assert door.parts.ledger.seq == seq


async def test_json_without_content_type_is_taken_and_a_foreign_type_is_not(door: Door) -> None:
    body = json.dumps({"messages": [MESSAGE]}).encode()
    url = door.url + CHAT
    async with door.http.post(url, data=body, skip_auto_headers=["content-type"]) as reply:
        assert reply.status == 200
    async with door.http.post(url, data=body, headers={"content-type": "application/x-www-form-urlencoded"}) as reply:
        assert reply.status == 200, "what curl -d sends"
    status, error = await raw(door, CHAT, body, **{"content-type": "text/xml"})
    assert (status, error["code"]) == (415, "unsupported_media_type")


async def test_a_large_body_is_refused_announced_or_not(door: Door) -> None:
    status, error = await raw(door, "/v1/tirami/kill", b" " * 70_000)
    assert (status, error["code"]) == (413, "body_too_large")

    async def drip() -> object:
        for _ in range(20):
            yield b" " * 8_000

    sent = {"authorization": f"Bearer {door.parts.admin_token}", "content-type": "application/json"}
    async with door.http.post(door.url + "/v1/tirami/kill", data=drip(), headers=sent) as reply:
        assert reply.status == 413
    status, error = await raw(door, CHAT, b" " * 4_200_000)
    assert (status, error["code"]) == (413, "body_too_large")


async def test_unknown_routes_methods_models_and_trades(door: Door) -> None:
    assert (await door.call("GET", "/nowhere"))[1]["error"]["code"] == "not_found"
    status, reply = await door.call("DELETE", "/v1/tirami/kill")
    assert (status, reply["error"]["code"]) == (405, "method_not_allowed")
    body = {"messages": [MESSAGE], "model": "gpt-9"}
    assert (await door.call("POST", CHAT, body))[1]["error"]["code"] == "model_not_found"
    for bad in ("00" * 32, "zz", "00"):
        assert (await door.call("GET", f"/v1/tirami/trades/{bad}"))[1]["error"]["code"] == "trade_not_found"


async def test_a_prompt_beyond_the_context(door: Door) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 5000}]}
    status, reply = await door.call("POST", CHAT, body)
    assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")


async def test_the_request_id_is_echoed_or_made(door: Door) -> None:
    async with door.http.get(door.url + "/healthz", headers={"X-Tirami-Request-Id": "abc-1"}) as reply:
        assert reply.headers["X-Tirami-Request-Id"] == "abc-1"
        assert await reply.text() == "ok"
    async with door.http.get(door.url + "/healthz", headers={"X-Tirami-Request-Id": "x" * 200}) as reply:
        assert reply.headers["X-Tirami-Request-Id"].startswith("req-")


async def test_money_errors_say_do_not_retry(door: Door) -> None:
    account, token = await door.agent()
    await door.admin("POST", "/v1/tirami/policy", {"node_id": account, "max_cu_per_request": None})
    body = {"messages": [MESSAGE], "max_tokens": 1001}
    async with door.http.post(door.url + CHAT, json=body, headers={"authorization": f"Bearer {token}"}) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["needed"], error["available"]) == (402, 1001, 1000)
        assert reply.headers["x-should-retry"] == "false"
    assert door.engine.running == 0


async def test_a_slow_client_is_given_up_and_billed_for_what_it_took(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.node.http.departure.SEND_TIMEOUT_S", 0.3)
    _, token = await door.agent()
    door.engine.length, door.engine.pieces = 400, ["x" * 200_000] * 400  # more than the system keeps for a reader
    host, port = door.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True})
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write((head + body).encode())
    await reader.read(100)
    await until(lambda: not door.engine.running and not door.parts.ledger.state.holds.open)
    writer.close()
    spent = (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"]
    assert 0 < spent < 200


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/embeddings", b'{"input": [' + b"true," * 400_000 + b"true]}", "input"),
        (CHAT, b"{" + b",".join(b'"%d": 1' % number for number in range(300_000)) + b"}", "300000 members"),
        (CHAT, b'{"messages": [' + b"{}," * 500_000 + b"{}]}", "messages"),
        ("/v1/embeddings", b'{"input": [' + b"{}," * 500_000 + b"{}]}", "input"),
    ],
    ids=["half a million wrong items", "as many unknown keys", "as many empty messages", "as many empty inputs"],
)
async def test_a_body_that_is_wrong_everywhere_is_refused_quickly(
    door: Door, path: str, body: bytes, said: str
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, error = await raw(door, path, body)
    assert (status, loop.time() - began < 5) == (400, True)
    assert said in str(error["message"]) and len(str(error["message"])) < 1_000
