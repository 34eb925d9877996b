"""Safety: circuit breaker, velocity, approvals, denials, the alarm. Over HTTP, on a clock that can be moved."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import Door, opened_door
from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.load import crowd
from tests.rows.test_saf import NO_LIMITS
from tirami.api.schemas import ChatCompletionRequest, DecisionRequest, PolicyRequest
from tirami.core.errors import ApprovalRequired, BudgetExceeded, CircuitBreakerOpen, InsufficientScope
from tirami.ledger import Book
from tirami.sdk import Tirami
from tirami.testing import ManualClock, RunningEngine

CHAT = "/v1/chat/completions"
SAFETY = "/v1/tirami/safety"
MINUTE_MS = 60_000


@dataclass
class Timed:
    """A node at whose door time passes when told."""

    door: Door
    clock: ManualClock

    def later(self, ms: int) -> None:
        self.clock.advance(ms / 1000)

    async def agent(self, **limits: int | None) -> tuple[str, str]:
        """A hosted account with only these limits, and its token."""
        account, token = await self.door.agent()
        await self.door.admin("POST", "/v1/tirami/policy", {"node_id": account, **NO_LIMITS, **limits})
        return account, token

    async def ask(self, token: str, most: int = 1, **headers: str) -> tuple[int, str]:
        """Status and error code (or finish reason) of one chat."""
        status, reply = await self.door.call("POST", CHAT, question(most), token=token, **headers)
        return status, outcome(status, reply)

    async def safety(self, token: str) -> Any:
        return (await self.door.call("GET", SAFETY, token=token))[1]


def question(most: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": most}


def outcome(status: int, reply: Any) -> str:
    return str(reply["choices"][0]["finish_reason"] if status == 200 else reply["error"]["code"])


@pytest.fixture
async def timed(tmp_path: Path) -> AsyncIterator[Timed]:
    clock = ManualClock()
    async with opened_door(tmp_path / "home", clock) as door:
        yield Timed(door, clock)


# --- circuit breaker ---------------------------------------------------------------------------------------------


@pytest.mark.row("SAF-03")
async def test_the_breaker_opens_at_the_fifth_error_and_one_probe_closes_it(timed: Timed) -> None:
    _, token = await timed.agent()
    engine = timed.door.engine
    engine.fail_after = 0
    for number in range(5):
        assert (await timed.safety(token))["circuit"]["errors"] == number
        assert await timed.ask(token, 500 + number) == (503, "engine_failed")
    engine.fail_after = None
    state = await timed.safety(token)
    assert (state["circuit_tripped"], state["circuit"]["state"], state["circuit"]["cause"]) == (True, "open", "errors")
    timed.later(5 * MINUTE_MS - 1)
    assert await timed.ask(token) == (403, "circuit_breaker_open")
    timed.later(1)
    assert (await timed.safety(token))["circuit"]["state"] == "half_open"
    engine.stall_after = 1
    probe = asyncio.create_task(timed.ask(token, 5))
    await engine.stalled.wait()
    assert [await timed.ask(token) for _ in range(3)] == [(403, "circuit_breaker_open")] * 3, "exactly one probe"
    engine.resume.set()
    assert await probe == (200, "length")
    state = await timed.safety(token)
    assert (state["circuit_tripped"], state["circuit"]["errors"]) == (False, 0)
    assert await timed.ask(token) == (200, "length")


@pytest.mark.row("SAF-03")
async def test_a_probe_that_fails_opens_the_breaker_anew(timed: Timed) -> None:
    _, token = await timed.agent()
    timed.door.engine.fail_after = 0
    for _ in range(5):
        await timed.ask(token)
    timed.later(5 * MINUTE_MS)
    assert await timed.ask(token) == (503, "engine_failed")
    assert await timed.ask(token) == (403, "circuit_breaker_open")
    timed.later(5 * MINUTE_MS)
    timed.door.engine.fail_after = None
    assert await timed.ask(token) == (200, "length")


@pytest.mark.row("SAF-03")
async def test_denials_and_bad_requests_are_no_errors(timed: Timed) -> None:
    _, token = await timed.agent(max_cu_per_request=5)
    for _ in range(6):
        assert await timed.ask(token, 6) == (403, "budget_exceeded")
        assert (await timed.ask(token, 10**9))[0] == 400
        assert (await timed.ask(token, 0))[0] == 400
    assert (await timed.safety(token))["circuit"] == {
        "state": "closed",
        "cause": None,
        "errors": 0,
        "until_ms": 0,
    }


@pytest.mark.row("SAF-03")
@pytest.mark.row("SAF-04")
def test_the_thirty_first_spend_trips_a_real_node_and_a_restart_forgets_nothing(
    engine: RunningEngine, tmp_path: Path
) -> None:
    """The default policy, wall-clock time, ``kill -9``."""

    async def burst(url: str, token: str) -> list[str | int]:
        async with crowd(url) as people:
            await asyncio.gather(*(people.ask(token, "hi", 1) for _ in range(50)))
            return sorted(str(answer.code or answer.status) for answer in people.answers)

    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env={"TIRAMI_PRICING_FOLLOW_LOAD": "false"}) as node:
        agent, other = make_agent(node), make_agent(node)
        codes = asyncio.run(burst(node.url, agent.token))
        assert codes.count("200") == 30
        assert codes.count("velocity_exceeded") == 1, "the 31st opens the breaker"
        assert codes.count("circuit_breaker_open") == 19
        node.kill()
        node.start()
        with node.client(agent.token) as client:
            with pytest.raises(CircuitBreakerOpen) as denied:
                client.chat_completions(chat(1))
            assert denied.value.data["cause"] == "velocity"
            assert 0 < (denied.value.retry_after or 0) <= 300
            state = client.safety()
            assert (state.spends_last_minute, state.circuit.cause, state.reserved) == (30, "velocity", 0)
        with node.client(other.token) as client, node.client() as owner:
            assert client.chat_completions(chat(1)).x_tirami.trm_cost > 0, "each account has its own"
            for _ in range(35):
                owner.chat_completions(chat(1))
        agent.client.close()
        other.client.close()
        node.stop()


def chat(most: int) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate(question(most))


# --- velocity ----------------------------------------------------------------------------------------------------


@pytest.mark.row("SAF-04")
async def test_the_minute_is_exact_to_one_millisecond(timed: Timed) -> None:
    _, early = await timed.agent(max_spends_per_minute=3)
    _, late = await timed.agent(max_spends_per_minute=3)
    for token in (early, late):
        assert await timed.ask(token) == (200, "length")
    timed.later(10_000)
    for token in (early, early, late, late):
        assert await timed.ask(token) == (200, "length")
    timed.later(MINUTE_MS - 10_000 - 1)
    assert (await timed.safety(early))["spends_last_minute"] == 3
    assert await timed.ask(early) == (403, "velocity_exceeded"), "59.999 s after the first"
    assert await timed.ask(early) == (403, "circuit_breaker_open")
    timed.later(1)
    assert (await timed.safety(late))["spends_last_minute"] == 2
    assert await timed.ask(late) == (200, "length"), "60.000 s after the first"
    timed.later(5 * MINUTE_MS)
    assert await timed.ask(early) == (200, "length"), "the probe"
    assert (await timed.safety(early))["circuit_tripped"] is False


@pytest.mark.row("SAF-04")
async def test_denied_spends_are_not_counted(timed: Timed) -> None:
    _, token = await timed.agent(max_spends_per_minute=3, max_cu_per_request=50, human_approval_threshold=20)
    for _ in range(20):
        assert await timed.ask(token, 51) == (403, "budget_exceeded")
        assert await timed.ask(token, 30) == (403, "approval_required")
    assert (await timed.safety(token))["spends_last_minute"] == 0
    assert [await timed.ask(token) for _ in range(4)] == [(200, "length")] * 3 + [(403, "velocity_exceeded")]
    assert (await timed.safety(token))["spends_last_minute"] == 3


@pytest.mark.row("SAF-04")
async def test_no_limit_is_no_limit(timed: Timed) -> None:
    _, token = await timed.agent()
    assert {await timed.ask(token) for _ in range(60)} == {(200, "length")}
    assert (await timed.safety(token))["spends_last_minute"] == 60


# --- approvals ---------------------------------------------------------------------------------------------------


async def request_of(timed: Timed, token: str, most: int) -> str:
    status, reply = await timed.door.call("POST", CHAT, question(most), token=token)
    error: Any = reply["error"]
    assert (status, error["code"], error["ceiling"]) == (403, "approval_required", most)
    return str(error["approval_id"])


@pytest.mark.row("SAF-05")
async def test_asked_approved_used_once(timed: Timed) -> None:
    account, token = await timed.door.agent()
    assert await timed.ask(token, 500) == (200, "stop"), "the default threshold is below the budget a request"
    request = await request_of(timed, token, 501)
    assert await request_of(timed, token, 501) == request, "the same spend waits once"
    waiting: Any = (await timed.door.admin("GET", "/v1/tirami/approvals"))["approvals"]
    assert [(entry["id"], entry["node_id"], entry["ceiling"], entry["status"]) for entry in waiting] == [
        (request, account, 501, "pending")
    ]
    assert await timed.ask(token, 501, X_Tirami_Approval=request) == (403, "approval_required")
    path = f"/v1/tirami/approvals/{request}"
    assert (await timed.door.call("POST", f"{path}/approve", {}, token=token))[1]["error"]["code"] == (  # type: ignore[index]
        "insufficient_scope"
    )
    approved = await timed.door.admin("POST", f"{path}/approve", {"operator": "dana"})
    assert (approved["status"], approved["operator"]) == ("approved", "owner: dana")
    assert (await timed.door.call("POST", f"{path}/deny", {}, token=timed.door.parts.admin_token))[0] == 409
    replies = [await timed.ask(token, 501, X_Tirami_Approval=request) for _ in range(2)]
    assert replies == [(200, "stop"), (403, "approval_required")], "one use"
    assert (await timed.safety(token))["reserved"] == 0


@pytest.mark.row("SAF-05")
async def test_a_permit_is_bound_to_account_ceiling_and_ten_minutes(timed: Timed) -> None:
    _, token = await timed.agent(human_approval_threshold=10)
    _, thief = await timed.agent(human_approval_threshold=10)
    permit = await request_of(timed, token, 100)
    await timed.door.admin("POST", f"/v1/tirami/approvals/{permit}/approve", {})
    assert await timed.ask(thief, 100, X_Tirami_Approval=permit) == (403, "approval_required")
    assert await timed.ask(token, 101, X_Tirami_Approval=permit) == (403, "approval_required")
    assert await timed.ask(token, 10, X_Tirami_Approval=permit) == (200, "length"), "not needed, not used"
    timed.later(10 * MINUTE_MS)
    assert await timed.ask(token, 100, X_Tirami_Approval=permit) == (403, "approval_required")
    refused = await request_of(timed, token, 100)
    await timed.door.admin("POST", f"/v1/tirami/approvals/{refused}/deny", {"operator": "dana"})
    assert await timed.ask(token, 100, X_Tirami_Approval=refused) == (403, "approval_denied")
    stale = await request_of(timed, token, 200)
    timed.later(10 * MINUTE_MS)
    status, reply = await timed.door.call(
        "POST", f"/v1/tirami/approvals/{stale}/approve", {}, token=timed.door.parts.admin_token
    )
    assert (status, outcome(status, reply)) == (404, "approval_not_found")


@pytest.mark.row("SAF-05")
async def test_of_a_hundred_that_show_the_permit_at_once_one_is_served(timed: Timed) -> None:
    _, token = await timed.agent(human_approval_threshold=10)
    permit = await request_of(timed, token, 100)
    await timed.door.admin("POST", f"/v1/tirami/approvals/{permit}/approve", {})
    replies = await asyncio.gather(*(timed.ask(token, 100, X_Tirami_Approval=permit) for _ in range(100)))
    assert sum(status == 200 for status, _ in replies) == 1
    assert {code for status, code in replies if status != 200} == {"approval_required", "queue_full"} & {
        code for _, code in replies
    }
    assert len((await timed.safety(token))["approvals"]) == 1, "ninety-nine wait as one"


@pytest.mark.row("SAF-05")
async def test_a_default_ceiling_never_needs_an_approval(timed: Timed) -> None:
    _, token = await timed.door.agent()
    timed.door.engine.length = 5_000
    body = {"messages": [{"role": "user", "content": "hi"}]}
    status, reply = await timed.door.call("POST", CHAT, body, token=token)
    assert (status, outcome(status, reply)) == (200, "length")
    assert reply["x_tirami"]["trm_cost"] == 500  # type: ignore[index]


@pytest.mark.row("SAF-05")
async def test_the_administrator_needs_no_approval_of_its_own_transfers(timed: Timed) -> None:
    identity = timed.door.parts.key.public_key.hex()
    for _ in range(2):
        state: Any = await timed.door.admin("GET", f"{SAFETY}?node={identity}")
        assert state["policy"]["human_approval_threshold"] is None
        await timed.door.admin("POST", "/v1/tirami/policy", {"node_id": identity})


@pytest.mark.row("SAF-05")
@pytest.mark.parametrize("header", ["x", "0" * 63, "0" * 65, "Z" * 64])
async def test_a_header_that_names_no_approval_is_refused(timed: Timed, header: str) -> None:
    _, token = await timed.agent()
    status, reply = await timed.door.call("POST", CHAT, question(1), token=token, X_Tirami_Approval=header)
    assert (status, reply["error"]["param"]) == (400, "x-tirami-approval")  # type: ignore[index]


@pytest.mark.row("SAF-05")
def test_requests_and_permits_survive_kill_minus_nine(engine: RunningEngine, tmp_path: Path) -> None:
    """Through the SDK, on the wire's own header."""
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env={"TIRAMI_PRICING_PROMPT_PPM": "0"}) as node:
        agent = make_agent(node)
        with node.admin() as admin:
            limits = {**NO_LIMITS, "human_approval_threshold": 20}
            admin.set_policy(PolicyRequest.model_validate({"node_id": agent.account, **limits}))
        with pytest.raises(ApprovalRequired) as required:
            agent.client.chat_completions(chat(30))
        request = str(required.value.data["approval_id"])
        node.kill()
        node.start()
        with node.admin() as admin:
            assert [entry.id for entry in admin.approvals().approvals] == [request]
            admin.approve(request, DecisionRequest(operator="dana"))
        node.kill()
        node.start()

        with Tirami(node.url, token=agent.token, approval=request) as client:
            assert client.chat_completions(chat(30)).x_tirami.trade_id
        for _ in range(2):
            with Tirami(node.url, token=agent.token, approval=request) as client, pytest.raises(ApprovalRequired):
                client.chat_completions(chat(30))
            node.kill()
            node.start()
        agent.client.close()
        node.stop()


# --- policies ------------------------------------------------------------------------------------------------------


@pytest.mark.row("API-52")
def test_limits_are_set_by_an_administrator_bind_at_once_and_survive_kill_minus_nine(
    engine: RunningEngine, tmp_path: Path
) -> None:
    limits = {
        "max_cu_per_request": 40,
        "max_cu_per_hour": 60,
        "max_cu_lifetime": 70,
        "human_approval_threshold": 50,
        "max_spends_per_minute": 9,
    }
    with NodeProcess(tmp_path / "home", "--upstream", engine.url, env={"TIRAMI_PRICING_PROMPT_PPM": "0"}) as node:
        agent = make_agent(node)
        policy = PolicyRequest.model_validate({"node_id": agent.account, **limits})
        with pytest.raises(InsufficientScope):
            agent.client.set_policy(policy)
        with node.admin() as admin:
            admin.set_policy(policy)
        with pytest.raises(BudgetExceeded) as request:
            agent.client.chat_completions(chat(41))
        assert agent.client.chat_completions(chat(35)).usage.completion_tokens == 35
        agent.client.close()
        node.kill()
        node.start()
        with Tirami(node.url, token=agent.token) as client:
            with pytest.raises(BudgetExceeded) as hour:
                client.chat_completions(chat(30))
            kept = client.safety()
        node.stop()
    assert (request.value.data["window"], hour.value.data["window"]) == ("request", "hour")
    assert {name: getattr(kept.policy, name) for name in limits} == limits
    assert (kept.hourly_spend, kept.lifetime_spend) == (35, 35)


# --- what the operator sees --------------------------------------------------------------------------------------


@pytest.mark.row("API-50")
async def test_the_last_hundred_denials_with_reasons(timed: Timed) -> None:
    account, token = await timed.agent(max_cu_per_request=5, human_approval_threshold=3)
    loud, crowd_token = await timed.agent(max_cu_per_request=5)
    await timed.ask(token, 6)
    timed.later(1)
    await timed.ask(token, 4)
    for _ in range(150):
        await timed.ask(crowd_token, 7)
    own = await timed.safety(token)
    assert [(entry["code"], entry["amount"], entry["node_id"]) for entry in own["denials"]] == [
        ("approval_required", 4, account),
        ("budget_exceeded", 6, account),
    ], "newest first; a bound token sees its own only, however loud the others are"
    assert own["denials"][0]["at_ms"] == own["denials"][1]["at_ms"] + 1
    assert "per request" in own["denials"][1]["message"]
    assert [entry["node_id"] for entry in own["approvals"]] == [account]
    assert (await timed.safety(crowd_token))["approvals"] == []
    everybody: Any = await timed.door.admin("GET", SAFETY)
    assert len(everybody["denials"]) == 100
    assert {entry["node_id"] for entry in everybody["denials"]} == {loud}
    assert [entry["node_id"] for entry in everybody["approvals"]] == [account]
    named: Any = await timed.door.admin("GET", f"{SAFETY}?node={account}")
    assert named["denials"] == own["denials"]
    status, reply = await timed.door.call("GET", f"{SAFETY}?node={loud}", token=token)
    assert (status, outcome(status, reply)) == (403, "insufficient_scope")


@pytest.mark.row("API-50")
async def test_switch_breaker_and_budgets_in_one_reply(timed: Timed) -> None:
    account, token = await timed.door.agent()
    await timed.ask(token, 7)
    state = await timed.safety(token)
    assert state["policy"] == {
        "max_cu_per_request": 4_000,
        "max_cu_per_hour": 10_000,
        "max_cu_lifetime": 1_000_000,
        "max_trm_per_request": 4_000,
        "max_trm_per_hour": 10_000,
        "max_trm_lifetime": 1_000_000,
        "human_approval_threshold": 500,
        "max_spends_per_minute": 30,
    }
    assert (state["node_id"], state["hourly_spend"], state["lifetime_spend"]) == (account, 7, 7)
    assert (state["spends_last_minute"], state["circuit_tripped"], state["kill_switch_active"]) == (1, False, False)
    await timed.door.admin("POST", "/v1/tirami/kill", {"activate": True, "reason": "drill", "operator": "dana"})
    assert await timed.ask(token) == (423, "kill_switch_active")
    state = await timed.safety(token)
    assert (state["kill_switch_active"], state["kill_operator"]) == (True, "owner: dana")
    assert state["denials"][0]["code"] == "kill_switch_active"


@pytest.mark.row("SAF-07", part="requests and transfers; mind optimiser and bank come later")
async def test_while_killed_no_agent_spends_and_nothing_is_asked_of_a_person(timed: Timed) -> None:
    account, token = await timed.agent(human_approval_threshold=10)
    permit = await request_of(timed, token, 50)
    await timed.door.admin("POST", f"/v1/tirami/approvals/{permit}/approve", {})
    await timed.door.admin("POST", "/v1/tirami/kill", {"activate": True})
    assert await timed.ask(token) == (423, "kill_switch_active")
    assert await timed.ask(token, 50, X_Tirami_Approval=permit) == (423, "kill_switch_active")
    assert await timed.ask(token, 60) == (423, "kill_switch_active")
    assert (await timed.door.call("POST", CHAT, question(1)))[0] == 423, "the owner neither"
    give = {"to": account, "amount": 1}
    status, _ = await timed.door.call("POST", "/v1/tirami/transfer", give, token=timed.door.parts.admin_token)
    assert status == 423
    state = await timed.safety(token)
    assert (state["lifetime_spend"], state["reserved"], len(state["approvals"])) == (0, 0, 1)
    await timed.door.admin("POST", "/v1/tirami/kill", {"activate": False})
    assert await timed.ask(token, 50, X_Tirami_Approval=permit) == (200, "stop"), "the permit was not used up"


@pytest.mark.row("SAF-06")
async def test_a_book_that_does_not_add_up_stops_spending_until_somebody_looks(
    timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await timed.agent()
    ledger = timed.door.parts.ledger
    monkeypatch.setattr(Book, "imbalance", lambda _: 5)
    ledger.check_balance()
    monkeypatch.undo()
    ledger.check_balance()
    for active in (True, False):
        await timed.door.admin("POST", "/v1/tirami/kill", {"activate": active})
    assert await timed.ask(token) == (403, "safety_unknown"), "no switch lifts it, nor a later sum that is right"
    assert (await timed.door.call("POST", CHAT, question(1)))[0] == 403
    state = await timed.safety(token)
    assert state["halted"] == "the book is out of balance by 5 TRM"
    assert "out of balance" in state["denials"][0]["message"]
    status, ready = await timed.door.call("GET", "/readyz")
    assert (status, ready["components"]["ledger"]) == (503, False)  # type: ignore[index]
