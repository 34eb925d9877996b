"""The routes of the owner's agent: who may use them, what they take, and what they say."""

from pathlib import Path
from typing import Any

import pytest

from tests.node.agent.test_errands import prefer, task
from tests.node.conftest import Door, opened_door
from tests.node.sellers import market

TASK, STATUS, PREFERENCES = (f"/v1/tirami/agent/{name}" for name in ("task", "status", "preferences"))


def problem(reply: dict[str, Any]) -> tuple[str, str | None]:
    return reply["error"]["code"], reply["error"]["param"]


async def test_an_accounts_token_neither_sees_nor_uses_it(door: Door) -> None:
    _, token = await door.agent("economy")
    for method, path, body in (("GET", STATUS, None), ("POST", TASK, {"prompt": "x"}), ("POST", PREFERENCES, {})):
        status, reply = await door.call(method, path, body, token=token)
        assert (status, problem(reply)[0]) == (403, "insufficient_scope"), path
    assert door.engine.opened == 0


async def test_the_owner_at_this_machine_uses_it_and_only_an_administrator_sets_it(door: Door) -> None:
    assert (await door.call("GET", STATUS))[0] == 200
    status, reply = await door.call("POST", TASK, {"prompt": "x", "max_tokens": 5})
    assert (status, reply["status"], reply["tokens"]) == (200, "run_local", 5), reply
    assert set(reply) == {
        *("task_id", "status", "output", "tokens", "finish_reason", "cost_trm", "trade_id", "trade_ids", "x_tirami")
    }
    assert str(reply["task_id"]).startswith("agent-task-") and reply["finish_reason"] == "length"
    status, refused = await door.call("POST", PREFERENCES, {"daily_spend_limit_trm": 5})
    assert (status, problem(refused)[0]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 2**32}, "max_tokens"),
        ({"prompt": "x", "size": "huge"}, "size"),
        ({"prompt": "x", "estimated_trm": 0}, "estimated_trm"),
        ({"prompt": "x", "estimated_trm": 2**53}, "estimated_trm"),
        ({"prompt": "x", "peer": {}}, "peer.node_id"),
        ({"prompt": "x", "peer": {"node_id": "ab"}}, "peer.node_id"),
        ({"prompt": "x", "peer": {"node_id": "ab" * 32, "api_token": "t"}}, "peer.api_token"),
    ],
)
async def test_what_is_wrong_with_a_task_is_named(door: Door, body: dict[str, object], param: str) -> None:
    status, reply = await door.call("POST", TASK, body)
    assert (status, problem(reply)) == (422, ("invalid_field", param))
    assert door.engine.opened == 0


async def test_tasks_of_one_moment_have_names_of_their_own(door: Door) -> None:
    names = {(await door.call("POST", TASK, {"prompt": "x", "max_tokens": 1}))[1]["task_id"] for _ in range(5)}
    assert len(names) == 5


async def test_off_the_mesh_the_owner_is_asked(door: Door) -> None:
    status, reply = await door.call("POST", TASK, {"prompt": "x", "max_tokens": 257})
    assert (status, reply["status"], reply["size"], reply["estimated_cost_trm"]) == (200, "ask_user", "remote", 3)
    assert "mesh.enabled" in str(reply["reason"])


async def test_preferences_are_shown_as_they_were_set(door: Door) -> None:
    given = {"min_peer_reputation": 0.25, "idle_utilization_threshold": 1, "auto_stake_fraction": 0.9}
    shown = await door.admin("POST", PREFERENCES, {**given, "daily_spend_limit_trm": 40})
    assert shown == (await door.admin("GET", STATUS))["preferences"]
    assert (shown["min_peer_reputation"], shown["idle_utilization_threshold"]) == (0.25, 1.0)
    assert (shown["daily_spend_limit_trm"], shown["per_task_budget_trm"], shown["idle_grace_seconds"]) == (40, 15, 60)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"auto_stake_fraction": 0.8}, "auto_stake_fraction"),
        ({"content_filter": "strict"}, "content_filter"),
        ({"min_peer_reputation": 2.0}, "min_peer_reputation"),
        ({"daily_spend_limit_trm": 5}, "per_task_budget_trm"),
        ({"per_task_budget_trm": -1}, "per_task_budget_trm"),
        ({"auto_earn_enabled": "yes"}, "auto_earn_enabled"),
    ],
)
async def test_wrong_preferences_leave_the_old_ones(door: Door, body: dict[str, object], param: str) -> None:
    before = (await door.admin("GET", STATUS))["preferences"]
    status, reply = await door.call(
        "POST", PREFERENCES, {"idle_grace_seconds": 7, **body}, token=door.parts.admin_token
    )
    assert (status, problem(reply)) == (422, ("invalid_field", param))
    assert (await door.admin("GET", STATUS))["preferences"] == before


async def test_without_an_agent_there_is_a_status_and_nothing_else(tmp_path: Path) -> None:
    async with opened_door(tmp_path / "home", **{"agent.enabled": False}) as door:
        status = await door.admin("GET", STATUS)
        assert status["configured"] is False and set(status) == {"configured", "loop", "summary"}
        for path, body in ((TASK, {"prompt": "x"}), (PREFERENCES, {})):
            code, reply = await door.call("POST", path, body, token=door.parts.admin_token)
            assert (code, problem(reply)[0]) == (412, "agent_disabled")


async def test_a_task_above_the_threshold_waits_for_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy of the node's key binds its agent as everybody who spends its money."""
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        admin = {"authorization": f"Bearer {found.buyer.parts.admin_token}"}
        policy = {"node_id": found.buyer.parts.key.public_key.hex(), "human_approval_threshold": 20}
        async with found.http.post(f"{found.buyer.url}/v1/tirami/policy", json=policy, headers=admin) as reply:
            assert reply.status == 200
        code, refused = await task(found)
        assert (code, refused["error"]["code"]) == (403, "approval_required"), refused
        permit = refused["error"]["approval_id"]
        approve = f"{found.buyer.url}/v1/tirami/approvals/{permit}/approve"
        async with found.http.post(approve, json={}, headers=admin) as reply:
            assert reply.status == 200
        body = {"prompt": "one two three", "max_tokens": 20, "size": "remote", "estimated_trm": 21, "model": "scripted"}
        shown = {**admin, "x-tirami-approval": permit}
        async with found.http.post(found.buyer.url + TASK, json=body, headers=shown) as reply:
            assert (await reply.json())["status"] == "run_remote"


async def test_whom_the_owner_denied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with market(tmp_path, monkeypatch, 1) as found:
        await prefer(found)
        (seller,) = found.sellers
        found.buyer.mesh.shop._consent._denied |= {seller.key}
        code, reply = await task(found, peer={"node_id": seller.key.hex()})
        assert (code, reply["status"], reply["action"]) == (200, "refused", "refused"), reply
        assert "deny list" in reply["reason"] and found.buyer.net == 0
