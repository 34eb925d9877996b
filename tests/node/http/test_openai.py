"""The OpenAI routes over the scripted engine: what is told, what is billed, what ends early."""

import asyncio
import json
from typing import Any

import pytest
from openai.types.responses import ResponseUsage

from tests.node.conftest import Door
from tests.waiting import until
from tirami.core.errors import InvalidRequest, StorageUnavailable
from tirami.ledger import AccountDisabled

MESSAGES = [{"role": "user", "content": "say hello now"}]
CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)


async def events(door: Door, path: str, body: dict[str, Any], token: str) -> list[Any]:
    headers = {"authorization": f"Bearer {token}"}
    async with door.http.post(door.url + path, json=body | {"stream": True}, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        lines = (await reply.read()).decode().split("\n")
    data = [line[6:] for line in lines if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


async def balance(door: Door, token: str) -> Any:
    return (await door.call("GET", "/v1/tirami/balance", token=token))[1]


async def test_choices_are_billed_together(door: Door) -> None:
    _, token = await door.agent()
    status, reply = await door.call("POST", CHAT, {"messages": MESSAGES, "n": 3, "max_tokens": 4}, token=token)
    assert status == 200
    ours: Any = reply["x_tirami"]
    assert ours["trm_cost"] == 12
    assert len(set(ours["trade_ids"])) == 3
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    assert (await balance(door, token))["consumed"] == 12
    told = await events(door, CHAT, {"messages": MESSAGES, "n": 3, "max_tokens": 4}, token)
    assert told[-1] == "[DONE]"
    ends = [choice for event in told[:-1] for choice in event["choices"] if choice["finish_reason"]]
    assert [end["index"] for end in ends] == [0, 1, 2]
    assert [event["x_tirami"]["trm_cost"] for event in told[:-1] if "x_tirami" in event] == [12]


async def test_a_kill_ends_every_choice(door: Door) -> None:
    _, token = await door.agent()
    door.engine.length, door.engine.stall_after = 50, 5
    body = {"messages": MESSAGES, "n": 3, "max_tokens": 40}
    running = asyncio.create_task(events(door, CHAT, body, token))
    await until(lambda: door.engine.waiting == 3)
    await door.admin("POST", "/v1/tirami/kill", {"activate": True, "reason": "r", "operator": "o"})
    told = await running
    ends = [choice["finish_reason"] for event in told[:-1] for choice in event["choices"] if choice["finish_reason"]]
    assert ends == ["killed"] * 3
    assert not door.parts.ledger.state.holds.open
    assert door.parts.engines.room.running == 0


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {"messages": MESSAGES}), (COMPLETIONS, {"prompt": "x"})], ids=["chat", "completions"]
)
async def test_only_choices_that_were_booked_are_charged_and_given(
    door: Door, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, object]
) -> None:
    _, token = await door.agent()
    ledger, ended = door.parts.ledger, list[bytes]()
    end = ledger.payables.end_session

    async def second_fails(hold_id: bytes, *how: Any) -> object:
        ended.append(hold_id)
        if len(ended) == 2:
            raise StorageUnavailable("scripted")
        return await end(hold_id, *how)

    monkeypatch.setattr(ledger.payables, "end_session", second_fails)
    status, reply = await door.call("POST", path, body | {"n": 3, "max_tokens": 4}, token=token)
    choices: Any = reply["choices"]
    ours: Any = reply["x_tirami"]
    texts = [choice["message"]["content"] if path == CHAT else choice["text"] for choice in choices]
    assert (status, texts) == (200, ["0 1 2 3 ", "", "0 1 2 3 "])
    assert [choice["finish_reason"] for choice in choices] == ["length", "cancelled", "length"]
    assert ours["trm_cost"] == (await balance(door, token))["consumed"] == 8


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_fails_ends_every_choice(door: Door, stream: bool) -> None:
    _, token = await door.agent()
    door.engine.fail_after = 2
    body = {"messages": MESSAGES, "n": 2, "max_tokens": 8}
    if stream:
        told = await events(door, CHAT, body, token)
        assert told[-2]["error"]["code"] == "engine_failed"
    else:
        status, reply = await door.call("POST", CHAT, body, token=token)
        assert (status, (await balance(door, token))["consumed"]) == (503, 0), reply
    assert not door.parts.ledger.state.holds.open
    assert door.engine.running == door.parts.engines.room.running == 0


async def test_embeddings_cost_their_prompt_and_a_failure_nothing(door: Door) -> None:
    _, token = await door.agent()
    status, reply = await door.call("POST", EMBEDDINGS, {"input": ["one two", [1, 2, 3]]}, token=token)
    data: Any = reply["data"]
    assert (status, reply["usage"], len(data)) == (200, {"prompt_tokens": 5, "total_tokens": 5}, 2)
    assert [entry["index"] for entry in data] == [0, 1]
    assert (await balance(door, token))["consumed"] == 1, "at least 1 TRM, and prompts are free on this node"
    door.engine.fail_after = 0
    status, _ = await door.call("POST", EMBEDDINGS, {"input": "one"}, token=token)
    assert (status, (await balance(door, token))["consumed"]) == (503, 1)
    assert not door.parts.ledger.state.holds.open


async def test_an_answer_that_breaks_off_is_a_failed_response(door: Door) -> None:
    _, token = await door.agent()
    door.engine.fail_after = 3
    told = await events(door, RESPONSES, {"input": "say hello"}, token)
    last = told[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == "server_error"
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert last["response"]["output"][0]["content"][0]["text"] == "0 1 2 "
    assert last["response"]["x_tirami"]["trm_cost"] == 3


async def test_the_routes_of_the_original(door: Door) -> None:
    _, token = await door.agent()
    status, reply = await door.call("POST", "/chat", {"prompt": "2+2=", "max_tokens": 4}, token=token)
    assert (status, reply["text"], reply["tokens_generated"], reply["cut"]) == (200, "0 1 2 3 ", 4, None)
    headers = {"authorization": f"Bearer {token}"}
    body = {"prompt": "2+2=", "max_tokens": 3}
    async with door.http.post(door.url + "/chat/stream", json=body, headers=headers) as stream:
        assert await stream.text() == "data: 0 \n\ndata: 1 \n\ndata: 2 \n\n"
    assert (await balance(door, token))["consumed"] == 7


@pytest.mark.parametrize(
    ("ends", "code"), [("kill", "kill_switch_active"), ("stop", "engine_failed"), ("disable", "account_disabled")]
)
async def test_the_originals_stream_says_that_it_was_cut(door: Door, ends: str, code: str) -> None:
    account, token = await door.agent()
    door.engine.length, door.engine.stall_after = 100, 70
    headers, body = {"authorization": f"Bearer {token}"}, {"prompt": "x", "max_tokens": 90}

    async def read() -> str:
        async with door.http.post(door.url + "/chat/stream", json=body, headers=headers) as reply:
            return await reply.text()

    reading = asyncio.create_task(read())
    await door.engine.stalled.wait()
    if ends == "kill":
        await door.admin("POST", "/v1/tirami/kill", {"activate": True, "reason": "r", "operator": "o"})
    elif ends == "stop":
        await door.parts.market.stop()
    else:
        await door.parts.ledger.record_facts(AccountDisabled(bytes.fromhex(account)))
        door.engine.resume.set()
    *pieces, last = (await reading).removesuffix("\n\n").split("\n\n")
    assert pieces[0] == "data: 0 "
    assert last.startswith("event: error\ndata: ")
    error = json.loads(last.partition("data: ")[2])["error"]
    assert error["code"] == code
    assert "not billed" not in error["message"] and " TRM were paid for it" in error["message"]


async def test_completions_of_several_prompts(door: Door) -> None:
    _, token = await door.agent()
    body = {"prompt": ["one two", [5, 6, 7]], "n": 2, "max_tokens": 2}
    _, reply = await door.call("POST", COMPLETIONS, body, token=token)
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    told = await events(door, COMPLETIONS, body | {"stream_options": {"include_usage": True}}, token)
    assert told[-2]["usage"] == reply["usage"]
    assert {choice["index"] for event in told[:-1] for choice in event["choices"]} == {0, 1, 2, 3}


LONG = "word " * 4096
CHAT_BODY = {"messages": [{"role": "user", "content": LONG}]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, CHAT_BODY, "messages"),
        (CHAT, {"messages": MESSAGES, "max_tokens": 5000}, "max_tokens"),
        (CHAT, {"messages": MESSAGES, "max_completion_tokens": 5000}, "max_completion_tokens"),
        (COMPLETIONS, {"prompt": LONG}, "prompt"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 5000}, "max_tokens"),
        (RESPONSES, {"input": LONG}, "input"),
        (RESPONSES, {"input": "x", "max_output_tokens": 5000}, "max_output_tokens"),
        ("/chat", {"prompt": LONG}, "prompt"),
        ("/v1/tirami/quote", CHAT_BODY, "messages"),
        ("/v1/tirami/quote", {"messages": MESSAGES, "max_completion_tokens": 5000}, "max_completion_tokens"),
    ],
)
async def test_what_is_too_long_is_called_by_its_name(
    door: Door, path: str, body: dict[str, object], param: str, stream: bool
) -> None:
    if path == "/chat" and stream:
        path = "/chat/stream"
    elif not path.startswith(("/chat", "/v1/tirami")):
        body = body | {"stream": stream}
    status, reply = await door.call("POST", path, body)
    error: Any = reply["error"]
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", param)


async def test_an_input_that_the_engine_refuses_is_called_input(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(text: object) -> None:
        raise InvalidRequest("the prompt is empty", param="prompt")

    monkeypatch.setattr(door.engine, "prepare_text", refuses)
    status, reply = await door.call("POST", EMBEDDINGS, {"input": "x"})
    error: Any = reply["error"]
    assert (status, error["param"]) == (400, "input")


async def reserved(door: Door, token: str, tokens: int) -> str:
    wanted = {"model_id": "scripted", "max_tokens": tokens, "reserve": True}
    scheduled: Any = (await door.call("POST", "/v1/tirami/schedule", wanted, token=token))[1]
    return str(scheduled["ticket"]["id"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": MESSAGES, "max_tokens": 3}),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 3}),
        (RESPONSES, {"input": "x", "max_output_tokens": 3}),
        (EMBEDDINGS, {"input": "x"}),
        ("/chat", {"prompt": "x", "max_tokens": 3}),
        ("/chat/stream", {"prompt": "x", "max_tokens": 3}),
    ],
)
async def test_a_ticket_is_used_up_by_any_call_that_spends(door: Door, path: str, body: dict[str, object]) -> None:
    """All of an account's money is reserved: only the call that shows the ticket can spend any of it."""
    _, token = await door.agent()
    ticket, *_ = [await reserved(door, token, part) for part in (450, 450, 100)]
    assert (await door.call("POST", path, body, token=token))[0] == 402
    headers = {"authorization": f"Bearer {token}", "x-tirami-ticket": ticket}
    async with door.http.post(door.url + path, json=body, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()
    after = await balance(door, token)
    assert (after["reserved"], after["consumed"] > 0) == (550, True)
    status, refused = await door.call("POST", path, body, token=token, x_tirami_ticket=ticket)
    error: Any = refused["error"]
    assert (status, error["code"]) == (409, "conflict")


@pytest.mark.parametrize(("body", "param"), [({"prompt": "x", "n": 2}, "n"), ({"prompt": ["x", "y"]}, "prompt")])
async def test_a_ticket_is_good_for_one_choice(door: Door, body: dict[str, object], param: str) -> None:
    _, token = await door.agent()
    ticket = await reserved(door, token, 10)
    status, refused = await door.call("POST", COMPLETIONS, body, token=token, x_tirami_ticket=ticket)
    error: Any = refused["error"]
    assert (status, error["param"], (await balance(door, token))["reserved"]) == (400, param, 10)


HELD = ["Well", "  ", "<tool", "_call>", '{"name": "f", ', '"arguments": ', '{"a"', ": 1", "}}", "</tool_call>"]
FUNCTION = {"name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize("ends", ["fails", "killed"])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("made", "sent"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 7), (8, 8)], ids=lambda count: str(count)
)
async def test_what_is_held_back_when_an_answer_breaks_off_is_not_billed(
    door: Door, path: str, ends: str, made: int, sent: int
) -> None:
    """White space and the head of a call are kept until it is known what they are; space before a call is then done."""
    _, token = await door.agent()
    door.engine.pieces, door.engine.length = HELD, len(HELD)
    if ends == "fails":
        door.engine.fail_after = made
    else:
        door.engine.stall_after = made
    body: dict[str, Any] = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}]}
    if path == RESPONSES:
        body = {"input": "x", "tools": [{"type": "function", **FUNCTION}]}
    reading = asyncio.create_task(events(door, path, body, token))
    if ends == "killed":
        await door.engine.stalled.wait()
        await door.parts.ledger.set_kill(True, "test", "nobody")
        sent = 0  # nothing was vouched for before
    await reading
    assert (await balance(door, token))["consumed"] == sent
    assert not door.parts.ledger.state.holds.open


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("pieces", [HELD, [*HELD, "  "], ["Well", "  ", "<tool"]], ids=["call", "space", "no call"])
async def test_what_was_held_back_and_told_at_the_end_is_billed(door: Door, path: str, pieces: list[str]) -> None:
    _, token = await door.agent()
    door.engine.pieces, door.engine.length = pieces, len(pieces)
    body: dict[str, Any] = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}]}
    if path == RESPONSES:
        body = {"input": "x", "tools": [{"type": "function", **FUNCTION}]}
    await events(door, path, body, token)
    assert (await balance(door, token))["consumed"] == len(pieces)


async def test_what_is_held_back_when_the_switch_is_thrown_is_not_billed(door: Door) -> None:
    """100 tokens told, and vouched for on the way; then the head of a call that never gets on."""
    _, token = await door.agent()
    door.engine.pieces = [*("word " for _ in range(100)), "<tool_call>", *("{" for _ in range(200))]
    door.engine.length, door.engine.stall_after = 301, 300
    body = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}], "max_tokens": 400}
    reading = asyncio.create_task(events(door, CHAT, body, token))
    await door.engine.stalled.wait()
    await door.parts.ledger.set_kill(True, "test", "nobody")
    told = await reading
    said = "".join(choice["delta"].get("content") or "" for event in told[:-1] for choice in event["choices"])
    assert said.count("word") == 100
    assert (await balance(door, token))["consumed"] == 100


@pytest.mark.parametrize("path", [CHAT, EMBEDDINGS])
async def test_a_ticket_that_is_none_reaches_no_engine(door: Door, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def used(*_: object, **__: object) -> None:
        pytest.fail("a model would be loaded for it")

    _, token = await door.agent()
    monkeypatch.setattr(door.parts.engines, "use", used)
    body = {"messages": MESSAGES} if path == CHAT else {"input": "x"}
    status, refused = await door.call("POST", path, body, token=token, x_tirami_ticket="00" * 16)
    error: Any = refused["error"]
    assert (status, error["code"]) == (409, "conflict")


BAD_CALLS = [
    '<tool_call>{"name": "get\\_weather", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "get\nweather", "arguments": {}}</tool_call>',
    '<tool_call>{"arguments": {"a": "\\ud800"}, "name": "f"}</tool_call>',
]


@pytest.mark.parametrize("said", BAD_CALLS)
async def test_a_call_that_is_none_is_an_answer_in_words(door: Door, said: str) -> None:
    """It was an internal error after the bill, and the client asked again."""
    _, token = await door.agent()
    door.engine.pieces, door.engine.length = [said], 1
    body = {"messages": MESSAGES, "tools": [{"type": "function", "function": FUNCTION}]}
    status, reply = await door.call("POST", CHAT, body, token=token)
    assert status == 200, reply
    choice: Any = reply["choices"]
    assert choice[0]["message"]["content"] == said
    told = await events(door, CHAT, body, token)
    assert told[-1] == "[DONE]"
    assert "".join(c["delta"].get("content") or "" for event in told[:-1] for c in event["choices"]) == said
    assert (await balance(door, token))["consumed"] == 2


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ({"seed": -1}, (1.0, 2**32 - 1)),
        ({"seed": 2**63 - 1}, (1.0, 2**32 - 1)),
        ({"seed": 2**40 + 7}, (1.0, 7)),
        ({"seed": 5, "top_p": 0}, (1e-6, 5)),
    ],
)
async def test_every_seed_and_top_p_of_openai_is_drawn_with(
    door: Door, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], drawn: tuple[float, int]
) -> None:
    generate, hows = door.engine.generate, []

    def seen(prompt: Any, how: Any) -> Any:
        hows.append((how.top_p, how.seed))
        return generate(prompt, how)

    monkeypatch.setattr(door.engine, "generate", seen)
    status, reply = await door.call("POST", CHAT, {"messages": MESSAGES, **asked})
    assert status == 200, reply
    assert hows == [drawn]


async def test_a_response_repeats_what_was_asked_and_counts_as_the_official_client_reads(door: Door) -> None:
    asked = {"input": "x", "parallel_tool_calls": False, "metadata": {"run": "7"}, "top_p": 0}
    status, reply = await door.call("POST", RESPONSES, asked)
    assert status == 200, reply
    assert {name: reply[name] for name in asked if name != "input"} == {n: v for n, v in asked.items() if n != "input"}
    usage = ResponseUsage.model_validate(reply["usage"])
    assert (usage.input_tokens_details.cached_tokens, usage.input_tokens_details.cache_write_tokens) == (0, 0)
    _, plain = await door.call("POST", RESPONSES, {"input": "x"})
    assert (plain["parallel_tool_calls"], plain["metadata"]) == (True, None)
    status, refused = await door.call("POST", RESPONSES, {"input": "x", "metadata": {"k" * 65: "v"}})
    assert status == 400, refused
