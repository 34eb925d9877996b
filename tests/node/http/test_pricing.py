"""A quote is the price of the call: the same prompt, all choices, and what would be bought is priced as sold."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.market.scripted import CARD
from tests.node.conftest import Door, opened_door
from tests.node.sellers import Market, market
from tirami.core.errors import TokenizerError
from tirami.infer import Message, Prompt, Tools
from tirami.infer.chat import unrendered
from tirami.ledger import HoldOpened
from tirami.market import Provider
from tirami.market.quoting import hold as hold_of

CHAT, QUOTE = "/v1/chat/completions", "/v1/tirami/quote"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
LONG = [
    {"role": "developer", "content": "be brief"},
    {"role": "user", "content": "what is the weather"},
    {"role": "assistant", "content": "", "tool_calls": [CALLED]},
    {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
]
HELLO = [{"role": "user", "content": "one two three"}]


@pytest.fixture
async def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A node that also sells prompts, whose engine counts every byte of what it is given to render."""
    async with opened_door(tmp_path / "home", **{"pricing.prompt_ppm": 1_000_000}) as door:

        async def prepare(messages: Sequence[Message], tools: Tools | None = None, schema: str | None = None) -> Prompt:
            return replace(unrendered(messages, tools), exact=True)

        monkeypatch.setattr(door.engine, "prepare", prepare)
        yield door


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[HoldOpened]:
    """The holds that were opened."""
    holds: list[HoldOpened] = []

    def noted(*arguments: Any) -> HoldOpened:
        holds.append(hold_of(*arguments))
        return holds[-1]

    monkeypatch.setattr("tirami.market.inference.hold", noted)
    return holds


@pytest.mark.parametrize(
    "body",
    [
        {"messages": HELLO, "max_tokens": 5},
        {"messages": HELLO, "max_tokens": 5, "n": 3},
        {"messages": LONG, "max_completion_tokens": 5},
        {"messages": HELLO, "max_tokens": 5, "tools": [WEATHER]},
        {"messages": LONG, "max_tokens": 5, "n": 2, "tools": [WEATHER], "tool_choice": "required"},
        {"messages": LONG, "max_tokens": 5, "tools": [WEATHER], "tool_choice": "none"},
    ],
    ids=["plain", "choices", "calls", "tools", "all", "no tools"],
)
async def test_a_quote_is_what_the_call_then_holds(
    counting: Door, held: list[HoldOpened], body: dict[str, object]
) -> None:
    door = counting
    status, quote = await door.call("POST", QUOTE, body)
    assert status == 200, quote
    assert held == []
    status, answer = await door.call("POST", CHAT, body)
    assert status == 200, answer
    assert quote["ceiling_trm"] == sum(hold.ceiling for hold in held)
    assert quote["prompt_tokens"] == answer["usage"]["prompt_tokens"]  # type: ignore[index]
    assert (quote["provider"], quote["remote"]) == (door.parts.key.public_key.hex(), False)


async def test_a_quote_refuses_the_tools_a_call_would_be_refused_for(counting: Door) -> None:
    status, reply = await counting.call("POST", QUOTE, {"messages": HELLO, "tools": [WEATHER, WEATHER]})
    assert (status, reply["error"]["param"]) == (422, "tools")  # type: ignore[index]
    status, reply = await counting.call("POST", QUOTE, {"messages": HELLO, "n": 9})
    assert (status, reply["error"]["param"]) == (422, "n")  # type: ignore[index]


# --- what would be bought of a peer ------------------------------------------------------------------------------


async def asked(found: Market, **changed: object) -> tuple[int, dict[str, Any]]:
    body = {"model": "scripted", "messages": HELLO, "max_tokens": 20} | changed
    async with aiohttp.ClientSession() as http, http.post(found.buyer.url + QUOTE, json=body) as reply:
        return reply.status, await reply.json()


async def test_what_would_be_bought_is_quoted_at_its_sellers_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2) as found:
        best = found.ranked()[0]
        for model in ("scripted", "default", None):
            status, quote = await asked(found, model=model)
            assert status == 200, quote
            assert (quote["remote"], quote["provider"], quote["model"]) == (True, best.key.hex(), "scripted")
        assert (quote["digest"], quote["max_tokens"], quote["admitted"]) == (CARD.digest.hex(), 20, True)
        assert quote["payer"] == found.buyer.parts.key.public_key.hex(), "the node pays for its owner"
        assert (quote["price_out_utrm"], quote["prompt_exact"], quote["prompt_tokens"]) == (1_000_000, True, 3)
        assert quote["ceiling_trm"] == -(-(3 * quote["price_in_utrm"] + 20 * 1_000_000) // 1_000_000)
        assert found.buyer.mesh.shop.bought == 0 == sum(seller.engine.opened for seller in found.sellers)
        status, reply = await found.ask()
        assert reply["x_tirami"]["trm_cost"] <= quote["ceiling_trm"]  # type: ignore[index]


async def test_what_nobody_sells_so_is_refused_as_the_call_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1, **{"mesh.max_trm": 9}) as found:
        for changed, param in (({}, "max_tokens"), ({"n": 2}, "n"), ({"max_tokens": 5000}, "max_tokens")):
            status, reply = await asked(found, **changed)
            assert (status, reply["error"]["param"]) == (400, param), reply
            assert (await found.ask(**changed))[0] == status
        status, reply = await asked(found, model="nobody's")
        assert (status, reply["error"]["code"]) == (404, "model_not_found")


async def test_a_prompt_that_no_context_takes_is_quoted_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tokens and twenty do not fit: only its tokenizer says so, and a quote that promised it would be broken."""
    async with market(tmp_path, monkeypatch, 2, [replace(CARD, context_length=22)] * 2) as found:
        for status, reply in (await asked(found), await found.ask()):
            error: Any = reply["error"]
            assert (status, error["code"], error["largest_context"]) == (400, "context_length_exceeded", 22)


async def test_one_peers_bad_template_does_not_end_a_quote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is quoted, as it would be asked; where all are of no use, the quote says why."""
    async with market(tmp_path, monkeypatch, 2) as found:
        bad, good = found.ranked()
        broken = {bytes(bad.key)}
        shop, prompter = found.buyer.mesh.shop, found.buyer.mesh.shop.prompter

        async def prompter_of(provider: Provider, silence_s: float) -> Any:
            if provider.peer.signal.node in broken:
                raise TokenizerError("the model's chat template cannot be used: it is none")
            return await prompter(provider, silence_s)

        monkeypatch.setattr(shop, "prompter", prompter_of)
        status, quote = await asked(found)
        assert (status, quote.get("provider")) == (200, good.key.hex()), quote
        assert found.ranked() == [good, bad], "who is of no use comes last for a while"
        broken.add(bytes(good.key))
        status, reply = await asked(found)
        assert (status, reply["error"]["code"]) == (503, "tokenizer_unusable")


async def test_what_only_peers_serve_cannot_be_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"model_id": "scripted", "max_tokens": 20}
    async with market(tmp_path, monkeypatch, 1) as found, aiohttp.ClientSession() as http:
        url = found.buyer.url + "/v1/tirami/schedule"
        async with http.post(url, json=body) as reply:
            assert reply.status == 200
        async with http.post(url, json=body | {"reserve": True}) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"], error["param"]) == (400, "invalid_request", "reserve")
            assert "only models of this node" in error["message"]
        async with http.post(url, json=body | {"reserve": True, "model_id": "nobodys"}) as reply:
            assert (await reply.json())["error"]["code"] in ("model_not_found", "no_model")
