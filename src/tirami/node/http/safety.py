"""Kill switch and budgets."""

from tirami.api.schemas import (
    KillReply,
    KillRequest,
    PolicyEntry,
    PolicyReply,
    PolicyRequest,
    SafetyQuery,
    SafetyReply,
)
from tirami.core.errors import AccountNotFound
from tirami.core.keys import parse_node_id
from tirami.ledger import Policy, PolicySet
from tirami.node.http.economy import visible_account
from tirami.node.http.handlers import Call, handles


@handles("safety")
async def safety(call: Call) -> SafetyReply:
    query: SafetyQuery = call.query
    ledger, account = call.parts.ledger, visible_account(call, query.node)
    await ledger.durable()
    kill, books = ledger.gate.kill, ledger.books(account)
    active = kill is not None and kill.active
    policy = ledger.gate.policy(account) if account != call.parts.payers.owner.key else None
    return SafetyReply(
        node_id=account.hex(),
        kill_switch_active=active,
        kill_reason=kill.reason if kill and active else None,
        kill_operator=kill.operator if kill and active else None,
        kill_position=ledger.state.settings.kill_seq,
        halted=ledger.gate.halted,
        book_checked_ms=ledger.checked_ms,
        hourly_spend=books.spent_in_hour(ledger.now()),
        lifetime_spend=books.lifetime,
        reserved=books.held,
        open_sessions=len(books.open),
        policy=None if policy is None else _entry(policy),
    )


@handles("kill")
async def kill(call: Call) -> KillReply:
    body: KillRequest = call.body
    position = await call.parts.ledger.set_kill(body.activate, body.reason, body.operator)
    status = "KILL SWITCH ACTIVATED" if body.activate else "kill switch deactivated"
    return KillReply(status=status, active=body.activate, reason=body.reason, operator=body.operator, position=position)


@handles("set_policy")
async def set_policy(call: Call) -> PolicyReply:
    body: PolicyRequest = call.body
    account = parse_node_id(body.node_id)
    known = call.parts.ledger.state.settings.accounts
    if account not in known and account != call.parts.key.public_key:
        raise AccountNotFound("budgets bind accounts hosted here and the node itself", param="node_id")
    policy = Policy(body.max_cu_per_request, body.max_cu_per_hour, body.max_cu_lifetime)
    await call.parts.ledger.record_facts(PolicySet(account, policy.per_request, policy.per_hour, policy.lifetime))
    return PolicyReply(node_id=body.node_id, policy=_entry(policy))


def _entry(policy: Policy) -> PolicyEntry:
    return PolicyEntry(
        max_cu_per_request=policy.per_request,
        max_cu_per_hour=policy.per_hour,
        max_cu_lifetime=policy.lifetime,
    )
