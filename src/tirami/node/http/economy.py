"""Balances, the network, transfers."""

from tirami.api.schemas import (
    BalanceQuery,
    BalanceReply,
    NetworkReply,
    TradesQuery,
    TransferReply,
    TransferRequest,
)
from tirami.core.errors import AccountNotFound, InsufficientScope
from tirami.core.keys import PublicKey, parse_node_id
from tirami.core.units import MICRO, Trm
from tirami.ledger import transfer
from tirami.node.http.caller import permit_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.idempotency import answer_to, asked_by
from tirami.node.http.trades import trade_entries
from tirami.node.parts import Parts


def own_account(call: Call) -> PublicKey:
    """The account a caller speaks for: its token's, else the owner's local one."""
    return call.caller.account or call.parts.payers.owner.key


def visible_account(call: Call, named: str | None) -> PublicKey:
    """The account asked for. A caller that speaks for an account sees that one; others, who audit, see the whole book.

    Raises ``InsufficientScope``.
    """
    if named is None:
        return own_account(call)
    wanted = parse_node_id(named)
    if call.caller.account is None or wanted == call.caller.account:
        return wanted
    raise InsufficientScope("this account is not yours to see", param="node")


@handles("balance", shows_book=True)
async def balance(call: Call) -> BalanceReply:
    query: BalanceQuery = call.query
    account, ledger = visible_account(call, query.node), call.parts.ledger
    has = ledger.balance(account)
    history = trade_entries(call.parts, TradesQuery(limit=query.limit, cursor=query.cursor), account)
    return BalanceReply(
        node_id=account.hex(),
        network=ledger.network.id,
        network_hash=ledger.network.hash.hex(),
        contributed=has.income,
        consumed=has.spent,
        reserved=has.reserved,
        net_balance=has.net,
        effective_balance=has.effective,
        credit_limit=has.credit_limit,
        credit_drawn=has.credit_drawn,
        contributed_trm=has.income,
        consumed_trm=has.spent,
        reserved_trm=has.reserved,
        reputation=call.parts.membership.reputation(account) / MICRO,
        trade_count=ledger.state.trades_of(account),
        history=history.trades,
        next_cursor=history.next_cursor,
    )


@handles("network", shows_book=True)
async def network(call: Call) -> NetworkReply:
    return network_reply(call.parts)


def network_reply(parts: Parts) -> NetworkReply:
    ledger = parts.ledger
    state, totals, local = ledger.state, ledger.state.network_totals, ledger.state.local_totals
    return NetworkReply(
        network=ledger.network.id,
        network_hash=ledger.network.hash.hex(),
        total_nodes=len(totals.parties),
        total_contributed_cu=totals.volume,
        total_consumed_cu=totals.volume,
        total_contributed_trm=totals.volume,
        total_consumed_trm=totals.volume,
        total_trades=totals.trades,
        trade_volume=totals.volume,
        total_flop=totals.flop,
        local_trades=local.trades,
        local_volume_trm=local.volume,
        avg_reputation=parts.membership.mean_reputation / MICRO if totals.parties else 0.0,
        merkle_root=state.log.root().hex(),
        log_size=state.log.size,
        sum_of_accounts=state.book.total,
        minted=state.book.minted,
        burned=state.book.burned,
        circulating=state.book.minted - state.book.burned,
        credit_outstanding=state.book.drawn,
    )


@handles("transfer")
async def give(call: Call) -> TransferReply:
    body: TransferRequest = call.body
    parts, to = call.parts, parse_node_id(body.to)
    if to not in parts.ledger.state.settings.accounts:
        raise AccountNotFound("transfers go to accounts hosted here", param="to")
    asked = asked_by(call)
    record_id = await answer_to(call, asked)
    if record_id is None:
        admitted, booked = transfer(parts.ledger, parts.key, to, Trm(body.amount), permit_of(call.request), asked)
        await booked
        record_id = admitted.record_id
    return TransferReply(
        record_id=record_id.hex(),
        to=to.hex(),
        amount=body.amount,
        effective_balance=parts.ledger.balance(to).effective,
        network_hash=parts.ledger.network.hash.hex(),
    )
