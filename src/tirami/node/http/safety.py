"""Kill switch, limits, approvals, denials."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from tirami.api.schemas import (
    ApprovalEntry,
    ApprovalList,
    CircuitEntry,
    DecisionRequest,
    DenialEntry,
    KillOrderReport,
    KillReply,
    KillRequest,
    PolicyEntry,
    PolicyReply,
    PolicyRequest,
    SafetyQuery,
    SafetyReply,
)
from tirami.core.errors import AccountNotFound, ApprovalNotFound, Conflict
from tirami.core.keys import parse_node_id
from tirami.ledger import Approval, Breaker, Circuit, Denial, Policy, PolicySet, Verdict
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles

if TYPE_CHECKING:
    from tirami.net.kills import Ordered

ANSWERS_S = 1.0
"""How long the mesh is given to say that it obeys."""
LIMITS = {
    "max_cu_per_request": "per_request",
    "max_cu_per_hour": "per_hour",
    "max_cu_lifetime": "lifetime",
    "human_approval_threshold": "approval_above",
    "max_spends_per_minute": "per_minute",
}
"""Names of a policy's limits, over HTTP and in the book."""


@handles("safety", shows_book=True)
async def safety(call: Call) -> SafetyReply:
    query: SafetyQuery = call.query
    ledger, account = call.parts.ledger, visible_account(call, query.node)
    kill, books = ledger.gate.kill, ledger.books(account)
    active = kill is not None and kill.active
    policy = ledger.gate.policy(account) if account != call.parts.payers.owner.key else None
    now, seen = ledger.now(), account if call.caller.account or query.node else None
    approvals = ledger.state.settings.approvals.live(now, seen)
    return SafetyReply(
        node_id=account.hex(),
        kill_switch_active=active,
        kill_reason=kill.reason if kill and active else None,
        kill_operator=kill.operator if kill and active else None,
        kill_position=ledger.state.settings.kill_seq,
        halted=ledger.gate.halted,
        book_checked_ms=ledger.checked_ms,
        hourly_spend=books.spent_in_hour(now),
        lifetime_spend=books.lifetime,
        spends_last_minute=books.velocity.count(now),
        circuit_tripped=books.breaker.circuit(now) is not Circuit.CLOSED,
        circuit=_circuit(books.breaker, now),
        reserved=books.held,
        open_sessions=len(books.open),
        policy=None if policy is None else _entry(policy),
        approvals=[_approval(call, approval) for approval in approvals if approval.verdict != Verdict.DENIED],
        denials=[_denial(denial) for denial in ledger.gate.denials.latest(seen)],
    )


@handles("kill")
async def kill(call: Call) -> KillReply:
    body: KillRequest = call.body
    operator = call.caller.noting(body.operator)
    parts = call.parts
    mesh = None
    if not body.mesh:
        position = await parts.ledger.set_kill(body.activate, body.reason, operator)
    elif parts.membership.kills is None:
        raise Conflict("this node is not on a mesh", param="mesh")
    else:
        ordered = await parts.membership.kills.order(body.activate, body.reason, operator)
        await asyncio.sleep(ANSWERS_S if ordered.told else 0)
        position, mesh = ordered.position, _ordered(ordered)
    return KillReply(
        status="KILL SWITCH ACTIVATED" if body.activate else "kill switch deactivated",
        active=body.activate,
        reason=body.reason,
        operator=operator,
        position=position,
        mesh=mesh,
    )


def _ordered(ordered: "Ordered") -> KillOrderReport:
    answers = sorted(ordered.answers.values(), key=lambda answer: answer.node)
    return KillOrderReport(
        peers=ordered.told,
        obeyed=[answer.node.hex() for answer in answers if answer.obeyed],
        refused={answer.node.hex(): answer.reason for answer in answers if not answer.obeyed},
    )


@handles("set_policy")
async def set_policy(call: Call) -> PolicyReply:
    body: PolicyRequest = call.body
    account = parse_node_id(body.node_id)
    known = call.parts.ledger.state.settings.accounts
    if account not in known and account != call.parts.key.public_key:
        raise AccountNotFound("budgets bind accounts hosted here and the node itself", param="node_id")
    before = call.parts.ledger.gate.policy(account)
    assert before is not None, "it is one of those just checked"
    named = {LIMITS[name]: getattr(body, name) for name in body.model_fields_set if name in LIMITS}
    policy = replace(before, **named)
    budgets = (policy.per_request, policy.per_hour, policy.lifetime)
    await call.parts.ledger.record_facts(PolicySet(account, *budgets, policy.approval_above, policy.per_minute))
    return PolicyReply(node_id=body.node_id, policy=_entry(policy))


@handles("approvals", shows_book=True)
async def approvals(call: Call) -> ApprovalList:
    ledger = call.parts.ledger
    live = ledger.state.settings.approvals.live(ledger.now())
    return ApprovalList(approvals=[_approval(call, approval) for approval in live])


@handles("approve")
async def approve(call: Call) -> ApprovalEntry:
    return await _decided(call, approved=True)


@handles("deny")
async def deny(call: Call) -> ApprovalEntry:
    return await _decided(call, approved=False)


async def _decided(call: Call, *, approved: bool) -> ApprovalEntry:
    body: DecisionRequest = call.body
    ledger, approval_id = call.parts.ledger, call.digest(ApprovalNotFound)
    operator = call.caller.noting(body.operator)
    decision = ledger.state.settings.approvals.decision(approval_id, approved, operator, ledger.now())
    written = ledger.append([decision])
    entry = _approval(call, ledger.state.settings.approvals.by_id[approval_id])
    await written
    return entry


def _entry(policy: Policy) -> PolicyEntry:
    return PolicyEntry(
        max_cu_per_request=policy.per_request,
        max_cu_per_hour=policy.per_hour,
        max_cu_lifetime=policy.lifetime,
        human_approval_threshold=policy.approval_above,
        max_spends_per_minute=policy.per_minute,
    )


def _circuit(breaker: Breaker, now_ms: int) -> CircuitEntry:
    return CircuitEntry.model_validate(
        {
            "state": breaker.circuit(now_ms).value,
            "cause": str(breaker.cause) or None,
            "errors": breaker.errors,
            "until_ms": breaker.until_ms,
        }
    )


def _approval(call: Call, approval: Approval) -> ApprovalEntry:
    hosted = call.parts.ledger.state.settings.accounts.get(approval.account)
    return ApprovalEntry.model_validate(
        {
            "id": approval.id.hex(),
            "node_id": approval.account.hex(),
            "label": hosted.label if hosted else "",
            "ceiling": approval.ceiling,
            "status": str(approval.verdict),
            "requested_ms": approval.requested_ms,
            "expires_ms": approval.expires_ms,
            "operator": approval.operator,
        }
    )


def _denial(denial: Denial) -> DenialEntry:
    return DenialEntry(
        at_ms=denial.at_ms,
        node_id=denial.account.hex(),
        amount=denial.amount,
        code=denial.code,
        message=denial.message,
    )
