"""What is bought of a peer and handed over whole: paid as it came, told as it ended, asked for with no ticket."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Send

from tests.market.scripted import CARD, ScriptedEngine
from tests.node.nodes import CHAT, HELLO
from tests.node.sellers import market
from tests.waiting import until
from tirami.core.keys import sha256
from tirami.net.session import consumer, remote_answer, serving
from tirami.node.http.departure import put
from tirami.node.http.openai import stream

LONG = 200
PROMPT = 1
"""TRM: three tokens at a quarter."""


async def test_a_node_that_only_buys_is_ready_while_somebody_sells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:

        async def ready() -> bool:
            async with found.http.get(f"{found.buyer.url}/readyz") as reply:
                said = await reply.json()
                assert (reply.status == 200) == said["ready"] == said["components"]["engine"]
                return bool(said["ready"])

        assert await ready()
        assert (await found.ask())[0] == 200
        (seller,) = found.sellers
        view = found.buyer.parts.membership.view
        assert view is not None
        found.buyer.mesh.shop._consent._denied |= {seller.key}
        await until(lambda: not view.has_seller(), 5)
        assert not await ready()


@pytest.mark.parametrize("ends", ["killed", "node_stopped"])
async def test_what_arrived_before_an_interruption_is_handed_over_with_its_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        (seller,), parts = found.sellers, found.buyer.parts
        seller.engine.length, seller.engine.stall_after = LONG, 100
        asked = asyncio.create_task(found.ask(max_tokens=LONG))
        await until(lambda: parts.market.tokens_running == 100)
        if ends == "killed":
            await parts.ledger.set_kill(True, "test", "nobody")
        else:
            await parts.market.stop()
        status, reply = await asked
        assert status == 200, reply
        choice: Any = reply["choices"]
        ours: Any = reply["x_tirami"]
        assert choice[0]["finish_reason"] == ends
        assert choice[0]["message"]["content"] == "".join(f"{number} " for number in range(100))
        assert 0 < ours["trm_cost"] <= PROMPT + 100
        if ends == "node_stopped":
            assert ours["trm_cost"] == PROMPT + 100


async def test_where_nothing_was_signed_for_an_interruption_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        (seller,), parts = found.sellers, found.buyer.parts
        seller.engine.stall_after = 0
        asked = asyncio.create_task(found.ask())
        await seller.engine.stalled.wait()
        await parts.ledger.set_kill(True, "test", "nobody")
        status, reply = await asked
        error: Any = reply["error"]
        assert (status, error["code"]) == (423, "kill_switch_active")
        assert found.buyer.net == 0


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
async def test_the_originals_clients_are_told_that_a_peer_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        found.sellers[0].engine.fail_after = 6
        async with found.http.post(found.buyer.url + path, json={"prompt": "one two three"}) as reply:
            text = await reply.text()
            assert (reply.status, "retry-after" in reply.headers) == (200, False), "asked again it would be paid again"
        assert "engine_failed" in text
        assert "7 TRM were paid" in text
        if path == "/chat":
            told = json.loads(text)
            assert (told["text"], told["tokens_generated"]) == ("0 1 2 3 4 5 ", 6)
            assert (told["cut"]["code"], told["x_tirami"]["trm_cost"]) == ("engine_failed", 7)
        await until(lambda: found.buyer.net == -7)


@pytest.mark.parametrize(
    ("path", "asked", "told"),
    [
        (CHAT, HELLO | {"stream": True, "max_tokens": LONG}, '"finish_reason":"idle_timeout"'),
        ("/chat/stream", {"prompt": "one two three", "max_tokens": LONG}, "was not read on for so long"),
        ("/v1/responses", {"input": "one two three", "stream": True}, "it ended early: idle_timeout"),
    ],
)
async def test_a_client_that_does_not_read_on_is_told_so_and_its_provider_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, asked: dict[str, object], told: str
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        shop, heard = found.buyer.mesh.shop, []
        monkeypatch.setattr(shop._opinions, "experienced", lambda provider, *, good: heard.append(good))
        found.sellers[0].engine.length, parts = LONG, 0
        for side in (consumer, remote_answer, serving):
            monkeypatch.setattr(side, "IDLE_S", 1.0)

        async def slowly(send: Send, message: Message) -> None:
            nonlocal parts
            parts += 1
            if parts == 5:
                await asyncio.sleep(3)
            await put(send, message)

        monkeypatch.setattr(stream, "put", slowly)
        async with found.http.post(found.buyer.url + path, json=asked) as reply:
            text = await reply.text()
        assert told in text, text[-2000:]
        assert heard == [] and not shop._broke


async def test_what_nobody_could_check_ends_the_answer_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2) as found:
        shop, heard = found.buyer.mesh.shop, []
        monkeypatch.setattr(shop._opinions, "experienced", lambda provider, *, good: heard.append(good))
        for seller in found.sellers:
            seller.engine.unnamed_after = 6
        status, reply = await found.ask()
        choice, ours = reply["choices"][0], reply["x_tirami"]  # type: ignore[index]
        assert (status, choice["finish_reason"]) == (200, "uncheckable")
        assert choice["message"]["content"] == "0 1 2 3 4 5 "
        assert (ours["trm_cost"], ours["owed_trm"]) == (PROMPT + 6, 0)
        async with found.http.post(found.buyer.url + "/chat", json={"prompt": "one two three"}) as answered:
            told = await answered.json()
        assert (answered.status, told["text"], told["cut"]["code"]) == (200, "0 1 2 3 4 5 ", "engine_failed")
        assert "nobody could check it" in told["cut"]["message"] and "7 TRM were paid" in told["cut"]["message"]
        async with found.http.post(found.buyer.url + "/v1/responses", json={"input": "one two three"}) as answered:
            told = await answered.json()
        assert (answered.status, told["status"]) == (200, "failed") and "uncheckable" in told["error"]["message"]

        for seller in found.sellers:
            seller.engine.unnamed_after = 0
        opened = sum(seller.engine.opened for seller in found.sellers)
        status, reply = await found.ask()
        choice = reply["choices"][0]  # type: ignore[index]
        assert (status, choice["finish_reason"], choice["message"]["content"]) == (200, "uncheckable", "")
        assert sum(seller.engine.opened for seller in found.sellers) == opened + 1, "another would draw the same tokens"
        assert heard == [] and len(shop._broke) == 1, "no blame, and another is asked first for a while"
        await until(lambda: found.buyer.net == -3 * (PROMPT + 6))


async def test_a_ticket_is_never_taken_to_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is none, nor a good one for a model of this node."""
    async with market(tmp_path, monkeypatch, 1) as found:
        own = ScriptedEngine()
        own.card = replace(CARD, name="other", digest=sha256(b"other"))
        found.buyer.parts.engines.serve(own)
        opened = found.sellers[0].engine.opened
        wanted = {"model_id": "other", "max_tokens": 20, "reserve": True}
        async with found.http.post(found.buyer.url + "/v1/tirami/schedule", json=wanted) as reply:
            ticket = (await reply.json())["ticket"]["id"]
        for shown in ("00" * 16, ticket):
            headers, body = {"x-tirami-ticket": shown}, {"model": "scripted", "prompt": "x", "max_tokens": 3}
            async with found.http.post(found.buyer.url + "/v1/completions", json=body, headers=headers) as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (409, "conflict")
        assert found.sellers[0].engine.opened == opened
        assert found.buyer.net == own.opened == 0


@pytest.mark.parametrize("length", [64, 65, 128])
async def test_whatever_id_http_allows_a_peer_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        headers = {"x-request-id": "r" * length}
        async with found.http.post(found.buyer.url + CHAT, json=HELLO, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            assert reply.headers["x-request-id"] == "r" * length
        assert found.sellers[0].engine.opened == 1


MANY: Any = {"type": "string", "enum": [f"a{number:04}" for number in range(7_500)]}
"""60 kB as a schema, and 75 kB as text within JSON."""
SHAPED = {"type": "json_schema", "json_schema": {"name": "many", "schema": MANY}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"one": MANY}}}}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"logit_bias": {"1": 1, "01": 2}}, "logit_bias"),
        ({"response_format": SHAPED}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
    ],
    ids=["two biases of one token", "a schema", "tools"],
)
async def test_what_cannot_be_asked_of_a_peer_is_no_providers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], field: str
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        status, reply = await found.ask(**asked)
        error: Any = reply["error"]
        assert (status, error["code"], error["param"]) == (400, "invalid_request", field)
        assert not found.buyer.mesh.shop._broke
        assert not found.buyer.parts.ledger.state.holds.open
        assert found.sellers[0].engine.opened == 0
