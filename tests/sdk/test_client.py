"""The client derives from the table, and speaks to a real server."""

import asyncio
import json

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
from tirami.sdk import AsyncTirami, Tirami
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
