"""What is sent again under the same key takes effect once: at once, at the same time, and after a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node.conftest import Door, opened_door

CHAT, TRANSFER, ACCOUNTS = "/v1/chat/completions", "/v1/tirami/transfer", "/v1/tirami/accounts"


@pytest.fixture
async def rich(tmp_path: Path) -> AsyncIterator[tuple[Door, str]]:
    """A node that has earned 10 TRM, and the account that paid them."""
    async with opened_door(tmp_path / "home") as door:
        account, token = await door.agent()
        status, _ = await door.call("POST", CHAT, {"messages": [{"role": "user", "content": "x"}]}, token=token)
        assert status == 200
        yield door, account


async def send(
    door: Door, path: str, body: object, key: str, token: str | None = None
) -> tuple[int, dict[str, object]]:
    return await door.call("POST", path, body, token=token or door.parts.admin_token, idempotency_key=key)


def records(door: Door) -> int:
    return len(door.parts.ledger.state.records)


async def test_the_same_transfer_moves_once(rich: tuple[Door, str]) -> None:
    door, account = rich
    before, body = records(door), {"to": account, "amount": 3}
    first = await send(door, TRANSFER, body, "a")
    assert first[0] == 200
    assert await send(door, TRANSFER, body, "a") == first
    assert records(door) == before + 1
    status, other = await send(door, TRANSFER, body, "b")
    assert status == 200
    assert other["record_id"] != first[1]["record_id"]
    assert (await door.call("POST", TRANSFER, body, token=door.parts.admin_token))[0] == 200
    assert records(door) == before + 3


async def test_another_body_under_the_same_key_is_refused(rich: tuple[Door, str]) -> None:
    door, account = rich
    await send(door, TRANSFER, {"to": account, "amount": 3}, "a")
    before = records(door)
    status, reply = await send(door, TRANSFER, {"to": account, "amount": 4}, "a")
    assert (status, reply["error"]["code"]) == (422, "idempotency_key_reused")  # type: ignore[index]
    assert records(door) == before


async def test_a_key_belongs_to_its_caller_and_operation(rich: tuple[Door, str]) -> None:
    door, account = rich
    issued = await door.admin("POST", "/v1/tirami/tokens/issue", {"scope": "admin"})
    body, before = {"to": account, "amount": 3}, records(door)
    for token in (None, str(issued["token"])):
        assert (await send(door, TRANSFER, body, "a", token))[0] == 200
    assert records(door) == before + 2
    assert (await send(door, ACCOUNTS, {"label": "x"}, "a"))[0] == 200


async def test_many_at_the_same_time_move_once(rich: tuple[Door, str]) -> None:
    door, account = rich
    before = records(door)
    replies = await asyncio.gather(*(send(door, TRANSFER, {"to": account, "amount": 3}, "a") for _ in range(8)))
    assert {status for status, _ in replies} == {200}
    assert len({reply["record_id"] for _, reply in replies}) == 1
    assert records(door) == before + 1


async def test_a_refused_transfer_may_be_tried_again(rich: tuple[Door, str]) -> None:
    door, account = rich
    body = {"to": account, "amount": 3}
    await door.admin("POST", "/v1/tirami/kill", {"activate": True})
    assert (await send(door, TRANSFER, body, "a"))[0] == 423
    await door.admin("POST", "/v1/tirami/kill", {"activate": False})
    assert (await send(door, TRANSFER, body, "a"))[0] == 200
    await door.admin("POST", "/v1/tirami/kill", {"activate": True})
    assert (await send(door, TRANSFER, body, "a"))[0] == 200, "it has been done before"


async def test_a_restart_remembers(tmp_path: Path) -> None:
    async with opened_door(tmp_path / "other") as door:
        account, token = await door.agent()
        await door.call("POST", CHAT, {"messages": [{"role": "user", "content": "x"}]}, token=token)
        body = {"to": account, "amount": 3}
        _, first = await send(door, TRANSFER, body, "a")
        _, created = await send(door, ACCOUNTS, {"label": "x"}, "a")
        before, accounts = records(door), len(door.parts.ledger.state.settings.accounts)
    async with opened_door(tmp_path / "other") as door:
        assert await send(door, TRANSFER, body, "a") == (200, first)
        assert await send(door, ACCOUNTS, {"label": "x"}, "a") == (200, created)
        assert records(door) == before
        assert len(door.parts.ledger.state.settings.accounts) == accounts


async def test_the_same_account_is_made_once(rich: tuple[Door, str]) -> None:
    door, _ = rich
    before = records(door)
    replies = await asyncio.gather(*(send(door, ACCOUNTS, {"label": "x"}, "a") for _ in range(3)))
    assert len({reply["account"] for _, reply in replies}) == 1
    assert records(door) <= before + 1, "one welcome line at most"
    assert (await send(door, ACCOUNTS, {"label": "y"}, "a"))[0] == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
async def test_a_key_that_is_none(rich: tuple[Door, str], key: str) -> None:
    door, account = rich
    status, reply = await send(door, TRANSFER, {"to": account, "amount": 3}, key)
    assert (status, reply["error"]["param"]) == (400, "idempotency-key")  # type: ignore[index]
