"""Streams over HTTP that do not end as planned: kills, clients that stop reading, engines and disks that fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message

from tests.ledger.disk import Disk
from tests.node.conftest import Door, opened_door
from tests.node.http.asgi import CHAT, HELLO, AsgiClient
from tests.waiting import until
from tirami.core.errors import QueueFull
from tirami.ledger import AccountDisabled
from tirami.ledger.entries import EntryKind
from tirami.net.session.terms import IDLE_S
from tirami.node.http import build_app
from tirami.node.http.departure import SEND_TIMEOUT_S

PROMPTLY_S = 2.0
"""Long before any time-out. That it takes no more than 200 ms is measured where nothing else runs, in test_saf."""

KILL = {"activate": True, "reason": "r", "operator": "o"}


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Door]:
    """One place at the engine, so that whoever keeps it keeps everybody else out."""
    async with opened_door(tmp_path / "home", **{"infer.slots": 1}) as door:
        yield door


@pytest.fixture
def app(narrow: Door) -> ASGIApp:
    return build_app(narrow.parts)


def starts(message: Message) -> bool:
    return message["type"] == "http.response.start"


def says(text: bytes) -> Callable[[Message], bool]:
    return lambda message: text in message.get("body", b"")


def free(door: Door) -> bool:
    """Nobody keeps a place at the engine, a hold or a session."""
    parts = door.parts
    return not (
        parts.engines.room.running or parts.engines.room.waiting or parts.ledger.state.holds.open or parts.market.live
    )


async def killed(door: Door) -> float:
    """Throw the switch; how long until everything is free, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await door.parts.ledger.set_kill(True, "test", "nobody")
    await until(lambda: free(door))
    return loop.time() - began


async def spent(door: Door, token: str) -> object:
    return (await door.call("GET", "/v1/tirami/balance", token=token))[1]["consumed"]


# --- the kill switch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_kill_while_the_hold_is_written_reaches_no_engine(
    narrow: Door, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    _, token = await narrow.agent()
    disk = Disk(narrow.parts.ledger, monkeypatch)
    disk.hold()
    asked = asyncio.create_task(narrow.call("POST", CHAT, {**HELLO, "stream": stream}, token=token))
    await disk.writing.wait()
    kill = asyncio.create_task(narrow.admin("POST", "/v1/tirami/kill", KILL))
    await until(lambda: narrow.parts.ledger.gate.kill is not None)
    disk.release()
    status, reply = await asked
    assert (status, reply["error"]["code"]) == (423, "kill_switch_active")
    await kill
    assert narrow.engine.opened == 0
    assert free(narrow)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_kill_reaches_whoever_waits_for_the_first_token_and_whoever_is_queued(
    narrow: Door, stream: bool
) -> None:
    _, token = await narrow.agent()
    narrow.engine.stall_after = 0
    body = {**HELLO, "stream": stream, "max_tokens": 10}
    asked = [asyncio.create_task(narrow.call("POST", CHAT, body, token=token)) for _ in range(5)]
    await narrow.engine.stalled.wait()
    await until(lambda: narrow.parts.engines.room.waiting == 4)
    assert await killed(narrow) < PROMPTLY_S
    for status, reply in await asyncio.gather(*asked):
        assert (status, reply["error"]["code"]) == (423, "kill_switch_active")
    assert await spent(narrow, token) == 0
    assert narrow.engine.opened == 1


@pytest.mark.parametrize("stops_at", [starts, says(b"role"), says(b'"0 "'), says(b'"5 "')])
async def test_a_kill_reaches_a_session_whose_client_does_not_read(
    narrow: Door, app: ASGIApp, stops_at: Callable[[Message], bool]
) -> None:
    _, token = await narrow.agent()
    client = AsgiClient(app, token, stops_at)
    running = asyncio.create_task(client.run())
    await client.stopped_reading.wait()
    assert narrow.parts.engines.room.running == 1
    assert await killed(narrow) < PROMPTLY_S
    assert narrow.engine.running == 0
    assert await spent(narrow, token) == 0, "nothing was vouched for before the switch was thrown"
    client.left.set()
    await running


async def test_a_killed_stream_says_so(narrow: Door, app: ASGIApp) -> None:
    _, token = await narrow.agent()
    narrow.engine.length, narrow.engine.stall_after = 300, 200
    client = AsgiClient(app, token)
    running = asyncio.create_task(client.run())
    await narrow.engine.stalled.wait()
    assert await killed(narrow) < PROMPTLY_S
    await running
    last, end = client.events()[-2:]
    assert end == "[DONE]"
    assert last["choices"][0]["finish_reason"] == "killed"
    assert last["x_tirami"]["trm_cost"] == 192 == await spent(narrow, token)


async def choices_of(door: Door, token: str) -> list[object]:
    """The events of a stream of two choices, which one place serves one after the other."""
    headers = {"authorization": f"Bearer {token}"}
    async with door.http.post(door.url + CHAT, json={**HELLO, "stream": True, "n": 2}, headers=headers) as reply:
        told = [line[6:] for line in (await reply.text()).split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in told]


async def test_a_kill_before_the_second_choice_begins_ends_the_stream_in_order(narrow: Door) -> None:
    _, token = await narrow.agent()
    narrow.engine.length, narrow.engine.stall_after = 300, 200
    asked = asyncio.create_task(choices_of(narrow, token))
    await narrow.engine.stalled.wait()
    await killed(narrow)
    first, second, error, end = (await asked)[-4:]
    assert end == "[DONE]"
    assert error["error"]["code"] == "kill_switch_active"
    assert [event["choices"][0]["finish_reason"] for event in (first, second)] == ["killed", "cancelled"]
    assert second["x_tirami"]["trm_cost"] == 192 == await spent(narrow, token)


async def test_an_engine_that_refuses_the_second_choice_ends_the_stream_in_order(
    narrow: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await narrow.agent()
    generate = narrow.engine.generate

    def once(*asked: object) -> object:
        if narrow.engine.opened:
            raise QueueFull("scripted", retry_after=5)
        return generate(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(narrow.engine, "generate", once)
    first, second, error, end = (await choices_of(narrow, token))[-4:]
    assert (error["error"]["code"], end) == ("queue_full", "[DONE]")
    assert [event["choices"][0]["finish_reason"] for event in (first, second)] == ["stop", "cancelled"]
    assert second["x_tirami"]["trm_cost"] == 10 == await spent(narrow, token)
    assert free(narrow)


# --- clients that stop reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops_at", [says(b"[DONE]"), lambda message: message.get("more_body") is False])
async def test_a_client_that_stops_reading_at_the_very_end_keeps_no_place(
    narrow: Door, app: ASGIApp, stops_at: Callable[[Message], bool]
) -> None:
    _, token = await narrow.agent()
    client = AsgiClient(app, token, stops_at)
    running = asyncio.create_task(client.run())
    await client.stopped_reading.wait()
    assert free(narrow)
    assert await spent(narrow, token) == 10
    status, _ = await narrow.call("POST", CHAT, {**HELLO, "max_tokens": 3}, token=token)
    assert status == 200
    assert not running.done()
    client.left.set()
    await running


@pytest.mark.parametrize("stops_at", [starts, says(b'"4 "')])
async def test_a_client_that_stops_reading_is_given_up(
    narrow: Door, app: ASGIApp, monkeypatch: pytest.MonkeyPatch, stops_at: Callable[[Message], bool]
) -> None:
    monkeypatch.setattr("tirami.node.http.departure.SEND_TIMEOUT_S", 0.05)
    _, token = await narrow.agent()
    client = AsgiClient(app, token, stops_at)
    await client.run()
    assert free(narrow)
    assert await spent(narrow, token) == (0 if stops_at is starts else 4)


def test_it_is_given_up_before_a_provider_gives_up_this_node() -> None:
    assert SEND_TIMEOUT_S < IDLE_S


async def test_a_client_that_leaves_while_its_hold_is_written_leaves_nothing(
    narrow: Door, app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await narrow.agent()
    disk = Disk(narrow.parts.ledger, monkeypatch)
    disk.hold()
    client = AsgiClient(app, token)
    running = asyncio.create_task(client.run())
    await disk.writing.wait()
    client.left.set()
    disk.release()
    await running
    assert free(narrow)
    assert narrow.engine.opened == narrow.engine.running == 0 or await spent(narrow, token) == 0


# --- engines and disks that fail -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 5, 9, 100])
async def test_a_failing_engine_ends_a_stream_in_order(narrow: Door, app: ASGIApp, tokens: int) -> None:
    """The final chunk with the bill, the error, the end mark; and the trade is durable before any of it is sent."""
    _, token = await narrow.agent()
    narrow.engine.length, narrow.engine.fail_after = 200, tokens
    booked: list[int] = []

    def at_the_end(message: Message) -> bool:
        if b"[DONE]" in message.get("body", b""):
            database = narrow.parts.ledger._journal._database
            records = database.execute("SELECT body FROM entries WHERE kind = ?", (EntryKind.RECORD,))
            booked.append(sum(b"trade" in body for (body,) in records))
        return False

    client = AsgiClient(app, token, at_the_end)
    await client.run()
    *chunks, last, error, end = client.events()
    assert end == "[DONE]"
    assert error["error"]["code"] == "engine_failed"
    assert last["choices"][0]["finish_reason"] == "provider_failed"
    assert last["x_tirami"]["trm_cost"] == tokens
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (tokens + 1)
    assert booked == [1]
    assert narrow.parts.ledger.state.stored(bytes.fromhex(last["x_tirami"]["trade_id"])) is not None
    assert await spent(narrow, token) == tokens
    assert free(narrow)


async def test_an_engine_that_fails_before_its_first_token_is_an_error_reply(narrow: Door, app: ASGIApp) -> None:
    _, token = await narrow.agent()
    narrow.engine.fail_after = 0
    client = AsgiClient(app, token)
    await client.run()
    assert client.status == 503
    assert b"engine_failed" in client.body
    assert free(narrow)


async def test_a_full_disk_ends_a_stream_with_an_error_and_no_bill(
    narrow: Door, app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await narrow.agent()
    disk = Disk(narrow.parts.ledger, monkeypatch)
    narrow.engine.stall_after = 5
    client = AsgiClient(app, token)
    running = asyncio.create_task(client.run())
    await narrow.engine.stalled.wait()
    disk.full = True
    narrow.engine.resume.set()
    await running
    *_, error, end = client.events()
    assert (error["error"]["code"], end) == ("storage_unavailable", "[DONE]")
    assert b"x_tirami" not in client.body, "nobody knows yet what this will cost"
    assert narrow.parts.engines.room.running == 0
    disk.full = False
    ledger = narrow.parts.ledger
    await ledger.durable()
    assert await ledger.payables.expire_holds(narrow.parts.market.live) == 1
    assert free(narrow)
    assert await spent(narrow, token) == 0
    assert (await narrow.call("POST", CHAT, HELLO, token=token))[0] == 200


async def test_an_answer_nobody_may_sign_for_is_not_handed_over(narrow: Door) -> None:
    account, token = await narrow.agent()
    narrow.engine.stall_after = 5
    asked = asyncio.create_task(narrow.call("POST", CHAT, HELLO, token=token))
    await narrow.engine.stalled.wait()
    await narrow.parts.ledger.record_facts(AccountDisabled(bytes.fromhex(account)))
    narrow.engine.resume.set()
    status, reply = await asked
    assert (status, reply["error"]["code"]) == (403, "account_disabled")
    assert "choices" not in reply
    assert free(narrow)
    assert narrow.parts.ledger.state.network_totals.trades == 0


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True], ids=["written", "lost"])
async def test_trades_are_listed_once_they_are_durable(
    narrow: Door, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    _, token = await narrow.agent()
    ledger, disk = narrow.parts.ledger, Disk(narrow.parts.ledger, monkeypatch)
    narrow.engine.stall_after = 5
    bought = asyncio.create_task(narrow.call("POST", CHAT, HELLO, token=token))
    await narrow.engine.stalled.wait()
    disk.hold()
    narrow.engine.resume.set()
    await until(lambda: ledger.state.network_totals.trades == 1)
    trade = ledger.state.records[-1].record_id.hex()
    paths = ("trades", f"trades/{trade}", "balance")
    asked = [asyncio.create_task(narrow.call("GET", f"/v1/tirami/{path}", token=token)) for path in paths]
    done, _ = await asyncio.wait(asked, timeout=0.1)
    assert not done
    disk.full = fails
    disk.release()
    (_, trades), (status, _), (_, balance) = await asyncio.gather(*asked)
    assert [entry["id"] for entry in trades["trades"]] == ([] if fails else [trade])
    assert (status, balance["consumed"]) == ((404, 0) if fails else (200, 10))
    assert (await bought)[0] == (503 if fails else 200)
