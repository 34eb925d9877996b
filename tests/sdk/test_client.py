"""The client derives from the table, and speaks to a real server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx2
import pytest

from tests.node.conftest import Door, door
from tirami.api import OPERATIONS
from tirami.api.schemas import AccountRequest, ChatCompletionRequest, KillRequest, TokenRequest, TradesQuery
from tirami.core.errors import (
    IdempotencyKeyReused,
    InsufficientScope,
    KillSwitchActive,
    MissingToken,
    ModelNotFound,
    TiramiError,
    TradeNotFound,
)
from tirami.sdk import AsyncTirami, Tirami, UnreadableReply
from tirami.sdk.errors import error_from
from tirami.sdk.generate import TARGET, generated

__all__ = ["door"]
HELLO = ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "hi"}]})


def test_generated_methods_are_not_stale() -> None:
    assert TARGET.read_text() == generated()


@pytest.mark.parametrize("client", [Tirami, AsyncTirami])
def test_every_operation_has_a_method(client: type) -> None:
    assert all(callable(getattr(client, operation.name)) for operation in OPERATIONS)


async def test_a_round_of_everything(door: Door) -> None:
    async with AsyncTirami(door.url, token=door.parts.admin_token) as admin, AsyncTirami(door.url) as anyone:
        account = await admin.create_account(AccountRequest(label="a"))
        issued = await admin.issue_token(TokenRequest(scope="inference", node_id=account.account))
        async with AsyncTirami(door.url, token=issued.token) as agent:
            answer = await agent.chat_completions(HELLO)
            assert answer.x_tirami.trm_cost == 10
            chunks = [chunk async for chunk in agent.stream_chat(HELLO)]
            assert chunks[-1]["x_tirami"]["trm_cost"] == 10
            page = await agent.trades(TradesQuery(limit=1, signatures=True))
            assert page.count == 1
            assert page.next_cursor is not None
            older = await agent.trades(TradesQuery(cursor=page.next_cursor))
            assert [trade.id for trade in older.trades] == [answer.x_tirami.trade_id]
            await admin.kill(KillRequest(activate=True, reason="test"))
            with pytest.raises(KillSwitchActive):
                await agent.chat_completions(HELLO)
            with pytest.raises(TradeNotFound):
                await agent.trade("00" * 32)
        with pytest.raises(InsufficientScope):
            await anyone.accounts()
        assert (await admin.network()).sum_of_accounts == 0


async def test_an_idempotency_key_goes_along(door: Door) -> None:
    async with AsyncTirami(door.url, token=door.parts.admin_token) as admin:
        first = await admin.create_account(AccountRequest(label="a"), idempotency_key="one")
        assert await admin.create_account(AccountRequest(label="a"), idempotency_key="one") == first
        with pytest.raises(IdempotencyKeyReused):
            await admin.create_account(AccountRequest(label="b"), idempotency_key="one")


@pytest.mark.parametrize("name", ["a b", "maker/model", "50%25?x=1#y", "ü", "a&b"])
def test_a_name_is_escaped_in_a_path(name: str) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(404, json={"error": {"code": "model_not_found", "message": "no"}})

    with answered_by(answer) as client, pytest.raises(ModelNotFound):
        client.model(name)
    path, _, query = asked[0].url.raw_path.decode().partition("?")
    assert (path.removeprefix("/v1/models/"), query) == (quote(name, safe=""), "")


async def test_an_escaped_name_arrives_whole(door: Door) -> None:
    async with AsyncTirami(door.url, token=door.parts.admin_token) as admin:
        with pytest.raises(ModelNotFound, match="'maker/a b%2F'"):
            await admin.model("maker/a b%2F")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b'{"total": "many"}', b"\xff"])
def test_an_answer_that_is_none_of_a_node_is_an_error_of_the_tree(body: bytes) -> None:
    with answered_by(lambda _: httpx2.Response(200, content=body)) as client, pytest.raises(UnreadableReply):
        client.tokens()


def test_a_stream_that_is_none_of_a_node_too() -> None:
    answer = httpx2.Response(200, content=b"data: <html>\n\n")
    with answered_by(lambda _: answer) as client, pytest.raises(UnreadableReply):
        list(client.stream_chat(HELLO))


@pytest.mark.parametrize(("asked", "connect"), [(600.0, 10.0), (3.0, 3.0)])
def test_connecting_is_bounded_apart(asked: float, connect: float) -> None:
    with Tirami("http://127.0.0.1:1", timeout_s=asked) as client:
        timeout = client._http.timeout
        assert (timeout.connect, timeout.read, timeout.write) == (connect, asked, asked)


@contextmanager
def answered_by(answer: Callable[[httpx2.Request], httpx2.Response]) -> Iterator[Tirami]:
    with Tirami("http://127.0.0.1:1") as client:
        client._http = httpx2.Client(base_url="http://127.0.0.1:1", transport=httpx2.MockTransport(answer))
        yield client


async def test_the_blocking_client(door: Door) -> None:
    def blocking() -> int:
        with Tirami(door.url) as client:
            return [*client.stream_chat(HELLO)][-1]["x_tirami"]["trm_cost"]

    assert await asyncio.to_thread(blocking) == 10


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (423, "kill_switch_active", KillSwitchActive),
        (423, 423, KillSwitchActive),
        (401, 401, MissingToken),
        (404, "model_not_found", ModelNotFound),
        (423, "of_tomorrow", TiramiError),
    ],
)
def test_an_error_comes_back_as_its_class(status: int, code: str | int, kind: type[TiramiError]) -> None:
    """A node that speaks the original's dialect has numbers for codes."""
    body = json.dumps({"error": {"message": "no", "code": code, "status": status}}).encode()
    error = error_from(status, body)
    assert type(error) is kind
    assert str(error) == "no"
