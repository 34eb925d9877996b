"""A provider that fails: before the first token the next best serves, after it the answer ends; paid is once."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.node.sellers import ALL, Market, market
from tests.waiting import until
from tirami.core.errors import QueueFull
from tirami.core.keys import PublicKey
from tirami.node.mesh import EngineDesk

PROMPT_AND_20 = 21
"""TRM: three prompt tokens at a quarter, and 20."""


@pytest.mark.row("L1-09")  # a provider that dies before the first token
@pytest.mark.parametrize("stream", [True, False])
async def test_who_dies_before_the_first_token_is_replaced_within_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        first.engine.stall_after = 0
        body = {"stream": stream}
        asked = asyncio.create_task(found.http.post(found.buyer.url + "/v1/chat/completions", json=request(**body)))
        await first.engine.stalled.wait()
        died = time.monotonic()
        found.cut_off(first)
        async with await asked as reply:
            text = await reply.text()
            took = time.monotonic() - died
            assert reply.status == 200, text
        assert all(f"{number} " in text for number in range(20))
        assert took < 2 + 3, "two seconds, and what a busy machine adds"
        assert (first.engine.opened, second.engine.opened) == (1, 1)
        await until(lambda: second.node.net == PROMPT_AND_20)
        assert found.buyer.net == -PROMPT_AND_20, "one bill"
        assert not found.buyer.parts.ledger.state.holds.open
        assert first.node.net == 0


async def test_an_engine_that_fails_at_once_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        first.engine.fail_after = 0
        status, reply = await found.ask()
        assert status == 200, reply
        assert reply["choices"][0]["message"]["content"] == ALL  # type: ignore[index]
        await until(lambda: second.node.net == -found.buyer.net == PROMPT_AND_20)
        assert found.ranked() == [second, first], "it comes last for now"


@pytest.mark.row("L1-09")  # a provider that dies in the middle
@pytest.mark.parametrize("stream", [True, False])
async def test_who_dies_in_the_middle_leaves_a_clean_end_and_one_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        first.engine.fail_after = 6
        async with found.http.post(found.buyer.url + "/v1/chat/completions", json=request(stream=stream)) as reply:
            text = await reply.text()
            assert reply.status == 200
        assert "provider_failed" in text
        assert "5 " in text and "6 " not in text.replace('"6', "")
        assert second.engine.opened == 0
        await until(lambda: first.node.net == -found.buyer.net == 7)
        assert second.node.net == 0


async def test_a_slow_beginning_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it works: that is no silence."""
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()
        first.engine.stall_after = 0
        asked = asyncio.create_task(found.ask())
        await first.engine.stalled.wait()
        await asyncio.sleep(2.5)
        first.engine.stall_after = None
        first.engine.resume.set()
        status, _ = await asked
        assert (status, second.engine.opened) == (200, 0)


async def test_who_has_no_place_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch) as found:
        first, second = found.ranked()

        def full(*_: object) -> None:
            raise QueueFull("scripted", retry_after=5)

        monkeypatch.setattr(EngineDesk, "serve", _only(second.node.mesh.desk, EngineDesk.serve, full))
        status, _ = await found.ask()
        assert (status, first.engine.opened, second.engine.opened) == (200, 0, 1)


async def test_when_all_fail_the_last_word_is_told_and_nothing_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        for seller in found.sellers:
            seller.engine.fail_after = 0
        status, reply = await found.ask()
        assert (status, reply["error"]["code"]) == (503, "engine_failed")  # type: ignore[index]
        assert [seller.engine.opened for seller in found.sellers] == [1, 1]
        assert found.buyer.net == 0
        assert not found.buyer.parts.ledger.state.holds.open


async def limited(found: Market, **limits: int) -> tuple[str, dict[str, str]]:
    """An account of the buyer's with such a policy, and headers for its requests."""
    account, token = await found.agent()
    await found.admin("/v1/tirami/policy", {"node_id": account, **limits})
    return account, {"authorization": f"Bearer {token}"}


async def test_a_request_is_one_spend_a_minute_however_many_providers_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        account, who = await limited(found, max_spends_per_minute=1)
        first, second = found.ranked()
        first.engine.fail_after = 0
        status, reply = await found.ask(headers=who)
        assert status == 200, reply
        assert (first.engine.opened, second.engine.opened) == (1, 1)
        books = found.buyer.parts.ledger.books(PublicKey(bytes.fromhex(account)))
        assert books.velocity.count(found.buyer.parts.ledger.now()) == 1
        status, reply = await found.ask(headers=who)
        assert (status, reply["error"]["code"]) == (403, "velocity_exceeded")  # type: ignore[index]


async def test_requests_that_fail_everywhere_are_spends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        _, who = await limited(found, max_spends_per_minute=2)
        for seller in found.sellers:
            seller.engine.fail_after = 0
        told = [await found.ask(headers=who | {"x-request-id": "always the same"}) for _ in range(3)]
        codes = [reply["error"]["code"] for _, reply in told]  # type: ignore[index]
        assert codes == ["engine_failed", "engine_failed", "velocity_exceeded"], "an agent in a loop is stopped"


async def test_an_approval_is_good_until_something_was_bought_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch) as found:
        _, who = await limited(found, human_approval_threshold=20)
        status, reply = await found.ask(headers=who)
        assert (status, reply["error"]["code"]) == (403, "approval_required")  # type: ignore[index]
        request = reply["error"]["approval_id"]  # type: ignore[index]
        await found.admin(f"/v1/tirami/approvals/{request}/approve", {})
        who |= {"x-tirami-approval": str(request)}
        first, second = found.ranked()
        first.engine.fail_after = second.engine.fail_after = 0
        status, reply = await found.ask(headers=who)
        assert (status, reply["error"]["code"]) == (503, "engine_failed")  # type: ignore[index]
        assert (first.engine.opened, second.engine.opened) == (1, 1), "the next best was tried with it"
        second.engine.fail_after = None
        assert (await found.ask(headers=who))[0] == 200
        status, reply = await found.ask(headers=who)
        assert (status, reply["error"]["code"]) == (403, "approval_required")  # type: ignore[index]
        assert reply["error"]["approval_id"] != request  # type: ignore[index]


@pytest.mark.parametrize("field", ["n", "prompt"])
async def test_what_peers_are_not_asked_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    async with market(tmp_path, monkeypatch, count=1) as found:
        if field == "n":
            status, reply = await found.ask(n=2)
        else:
            body = {"model": "scripted", "prompt": ["a", "b"]}
            async with found.http.post(found.buyer.url + "/v1/completions", json=body) as said:
                status, reply = said.status, await said.json()
        assert (status, reply["error"]["param"]) == (400, field)  # type: ignore[index]


def request(**changed: object) -> dict[str, object]:
    message = {"role": "user", "content": "one two three"}
    return {"model": "scripted", "messages": [message], "max_tokens": 20, **changed}


def _only(served: EngineDesk, serve: object, otherwise: object) -> object:
    def chosen(desk: EngineDesk, *args: object) -> object:
        return (serve if desk is served else otherwise)(desk, *args)  # type: ignore[operator]

    return chosen
