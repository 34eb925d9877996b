"""The agent's tasks on whole nodes over a network in memory: within its limits, by the one way everything is bought."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.market.scripted import ScriptedEngine
from tests.node.sellers import ALL, Market, market
from tests.waiting import until

PROMPT_AND_20 = 21
"""TRM: three prompt tokens at a quarter, and 20."""
RICH = {"daily_spend_limit_trm": 50, "per_task_budget_trm": 21}


async def post(found: Market, path: str, body: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    headers = {"authorization": f"Bearer {found.buyer.parts.admin_token}"}
    async with found.http.post(f"{found.buyer.url}/v1/tirami/agent/{path}", json=body, headers=headers) as reply:
        return reply.status, await reply.json()


async def prefer(found: Market, **preferences: object) -> None:
    status, reply = await post(found, "preferences", RICH | preferences)
    assert status == 200, reply


async def task(found: Market, **changed: object) -> tuple[int, dict[str, Any]]:
    body = {"prompt": "one two three", "max_tokens": 20, "size": "remote", "estimated_trm": 21, "model": "scripted"}
    return await post(found, "task", body | changed)


async def status(found: Market) -> dict[str, Any]:
    async with found.http.get(f"{found.buyer.url}/v1/tirami/agent/status") as reply:
        assert reply.status == 200
        return await reply.json()  # type: ignore[no-any-return]


async def test_a_remote_task_is_bought_paid_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        (seller,) = found.sellers
        code, reply = await task(found)
        assert code == 200, reply
        assert (reply["status"], reply["output"], reply["tokens"]) == ("run_remote", ALL, 20)
        assert (reply["cost_trm"], reply["provider"]) == (PROMPT_AND_20, seller.key.hex())
        assert reply["trade_ids"] == [reply["trade_id"]] and reply["x_tirami"]["trm_cost"] == PROMPT_AND_20
        assert reply["x_tirami"]["payer"] == found.buyer.parts.key.public_key.hex()
        await until(lambda: seller.node.net == -found.buyer.net == PROMPT_AND_20)
        told = await status(found)
        assert (told["spent_today_trm"], told["reserved_today_trm"], told["net_today_trm"]) == (21, 0, -21)
        assert told["loop"]["last_action"] == "run_remote"


async def test_tasks_side_by_side_cannot_pass_the_days_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        replies = await asyncio.gather(*(task(found) for _ in range(5)))
        assert {code for code, _ in replies} == {200}
        assert sorted(reply["status"] for _, reply in replies) == ["ask_user"] * 3 + ["run_remote"] * 2
        assert all("daily limit" in reply["reason"] for _, reply in replies if reply["status"] == "ask_user")
        assert (await status(found))["spent_today_trm"] == 42


async def test_what_nobody_does_for_the_estimate_is_asked_with_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        code, reply = await task(found, estimated_trm=20)
        assert (code, reply["status"], reply["estimated_cost_trm"]) == (200, "ask_user", PROMPT_AND_20), reply
        assert "this task may cost at most 20" in reply["reason"]
        assert found.buyer.net == 0 and (await status(found))["reserved_today_trm"] == 0


async def test_an_owner_of_a_local_model_may_still_buy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        own = ScriptedEngine(20)
        found.buyer.parts.engines.serve(own)
        code, local = await task(found, size="local")
        assert (code, local["status"], own.opened, found.buyer.net) == (200, "run_local", 1, 0), local
        code, remote = await task(found)
        assert (code, remote["status"], own.opened) == (200, "run_remote", 1)
        assert (await status(found))["spent_today_trm"] == PROMPT_AND_20, "own use does not touch the tally"


@pytest.mark.parametrize("overflow", [False, True])
async def test_a_local_task_waits_for_this_node_and_is_never_bought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overflow: bool
) -> None:
    async with market(tmp_path, monkeypatch, 1, **{"infer.slots": 1, "mesh.overflow": overflow}) as found:
        await prefer(found)
        parts = found.buyer.parts
        parts.engines.serve(ScriptedEngine(20))
        async with parts.engines.use("scripted", owner=True) as served, served.room.place(b"owner", owner=True):
            waiting = asyncio.create_task(task(found, size="local"))
            await until(lambda: served.room.waiting)
            assert found.buyer.mesh.shop.bought == 0
        code, reply = await waiting
        assert (code, reply["status"], found.buyer.net, found.buyer.mesh.shop.bought) == (200, "run_local", 0, 0)


async def test_a_local_task_without_a_model_here_is_not_bought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        code, reply = await task(found, size="local")
        assert (code, reply["error"]["code"]) == (503, "no_model")
        assert found.buyer.net == 0


async def test_a_peer_may_be_named_and_no_other_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 2) as found:
        await prefer(found)
        best, other = found.ranked()
        code, reply = await task(found, peer={"node_id": other.key.hex()}, size="hybrid")
        assert (code, reply["status"], reply["provider"]) == (200, "run_remote", other.key.hex()), reply
        other.engine.fail_after = 0
        code, reply = await task(found, peer={"node_id": other.key.hex()})
        assert code == 503, "its failure is told; the next best was not asked for"
        assert best.engine.opened == 0
        assert (await status(found))["reserved_today_trm"] == 0


async def test_who_fails_before_the_first_token_is_replaced_within_the_same_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 2) as found:
        await prefer(found, daily_spend_limit_trm=PROMPT_AND_20)
        first, second = found.ranked()
        first.engine.fail_after = 0
        code, reply = await task(found)
        assert (code, reply["status"], reply["provider"]) == (200, "run_remote", second.key.hex()), reply
        told = await status(found)
        assert (told["spent_today_trm"], told["reserved_today_trm"]) == (PROMPT_AND_20, 0)


async def test_a_task_under_way_is_set_aside_and_then_held_at_its_ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        (seller,) = found.sellers
        seller.engine.stall_after = 10
        asked = asyncio.create_task(task(found, estimated_trm=21))
        await seller.engine.stalled.wait()
        told = await status(found)
        assert (told["spent_today_trm"], told["reserved_today_trm"]) == (0, 21)
        (hold,) = found.buyer.parts.ledger.state.holds.open.values()
        assert (hold.opened.purpose, hold.opened.ceiling) == ("agent", 21)
        seller.engine.resume.set()
        code, reply = await asked
        assert (code, reply["cost_trm"], reply["task_id"]) == (200, PROMPT_AND_20, hold.opened.request_id)
