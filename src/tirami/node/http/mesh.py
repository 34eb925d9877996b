"""The mesh: peers, connections, selling and buying, earnings. A node off the mesh says so."""

from datetime import UTC, datetime

from tirami.api.consent import statements
from tirami.api.schemas import (
    BuyingReport,
    EarningsEntry,
    EarningsQuery,
    EarningsReply,
    MeshReport,
    PeersQuery,
    PeersReply,
    SellingReply,
    SellingReport,
    SellingRequest,
    TopologyNode,
    TopologyReply,
    UnpaidEntry,
)
from tirami.core.errors import InsufficientScope
from tirami.core.units import DAY_MS
from tirami.infer import ModelCard
from tirami.ledger import Ledger, SellingPaused, UsageSums
from tirami.node.http.handlers import Call, handles
from tirami.node.http.offers import served
from tirami.node.parts import Parts

MOST_UNPAID = 100
"""Payers shown who owe something: keys cost little."""


@handles("peers", shows_book=True)
async def peers(call: Call) -> PeersReply:
    query: PeersQuery = call.query
    view = call.parts.membership.view
    if view is None:
        starting = call.parts.config.mesh.enabled
        return PeersReply(enabled=False, starting=starting, count=0, connected=0, peers=[])
    return view.peers(query, addresses=_speaks_for_node(call))


@handles("topology")
async def topology(call: Call) -> TopologyReply:
    parts, view, addresses = call.parts, call.parts.membership.view, _speaks_for_node(call)
    network = parts.ledger.network
    return TopologyReply(
        enabled=view is not None,
        node=TopologyNode(
            node_id=parts.key.public_key.hex(),
            address=view.address if view and addresses else None,
            models=[engine.card.name for engine in served(parts)],
            network=network.id,
            network_hash=network.hash.hex(),
        ),
        links=view.links(addresses=addresses) if view else [],
        missing=view.missing if view else [],
        known_providers=view.signals if view else 0,
    )


@handles("mesh", shows_book=True)
async def mesh(call: Call) -> MeshReport:
    return mesh_report(call.parts, owner=_speaks_for_node(call))


def mesh_report(parts: Parts, *, owner: bool) -> MeshReport:
    """``owner``: the caller speaks for the node, not for one account; others are not told of keys and addresses."""
    config, view = parts.config.mesh, parts.membership.view
    return MeshReport(
        enabled=view is not None,
        starting=view is None and config.enabled,
        address=view.address if view and owner else None,
        relay=config.relay,
        probe=view.probe(addresses=owner) if view else None,
        peers=view.connected if view else 0,
        calling=view.calling() if view and owner else [],
        providers=view.signals if view else 0,
        selling=view.selling() if view else _not_selling(parts),
        buying=BuyingReport(
            consume=config.consume,
            trusted=_keys(config.trusted) if owner else [],
            denied=_keys(config.denied) if owner else [],
            max_trm=config.max_trm,
            payer=parts.key.public_key.hex(),
            bought=view.bought if view else 0,
        ),
        statements=statements(config, parts.ledger.network.parameters.unwitnessed_daily_limit),
    )


@handles("set_selling")
async def set_selling(call: Call) -> SellingReply:
    body: SellingRequest = call.body
    ledger, view = call.parts.ledger, call.parts.membership.view
    if ledger.state.settings.paused != body.paused:
        await ledger.record_facts(SellingPaused(body.paused, call.caller.noting(body.operator)))
    return SellingReply(paused=body.paused, running=view.selling_now if view else 0)


@handles("earnings", shows_book=True)
async def earnings(call: Call) -> EarningsReply:
    query: EarningsQuery = call.query
    if not _speaks_for_node(call):
        raise InsufficientScope("what the node earns is its owner's to see")
    ledger, cards = call.parts.ledger, await call.parts.engines.described()
    names = {bytes(card.digest): name for name, card in cards.items() if isinstance(card, ModelCard)}
    hosted, today = ledger.state.settings.accounts, ledger.now() // DAY_MS
    found = sorted(ledger.state.earnings.since(today - query.days + 1), key=lambda row: (row[0], -row[2].trm, row[1]))
    rows = [_row(day, payer, model, sums, names, hosted=payer in hosted) for day, (payer, model), sums in found]
    unpaid = _unpaid(ledger)
    return EarningsReply(
        node_id=call.parts.key.public_key.hex(),
        network=ledger.network.id,
        trm=sum(row.trm for row in rows),
        requests=sum(row.requests for row in rows),
        rows=rows,
        unpaid_trm=sum(entry.trm for entry in unpaid),
        unpaid=unpaid[:MOST_UNPAID],
    )


def _unpaid(ledger: Ledger) -> list[UnpaidEntry]:
    """Who was given what in the last 24 hours and did not pay it, the largest first."""
    since, found = ledger.now() - DAY_MS, ledger.state.claims.debtors(ledger.now())
    entries = [
        UnpaidEntry(
            payer=payer.hex(),
            sessions=sum(at_ms > since for at_ms, _ in debtor.unpaid),
            trm=debtor.unpaid_since(since),
            refused=ledger.receivables.refuses(payer),
        )
        for payer, debtor in found
    ]
    return sorted(entries, key=lambda entry: (-entry.trm, entry.payer))


def _row(
    day: int, payer: bytes, model: bytes, sums: UsageSums, names: dict[bytes, str], *, hosted: bool
) -> EarningsEntry:
    return EarningsEntry(
        day=datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat(),
        payer=payer.hex() or None,
        hosted=hosted,
        model_digest=model.hex() or None,
        model=names.get(model),
        requests=sums.requests,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        trm=sums.trm,
    )


def _not_selling(parts: Parts) -> SellingReport:
    config = parts.config.mesh
    paused = parts.ledger.state.settings.paused
    return SellingReport(
        on=False, paused=paused, running=0, slots=config.slots, free=0, idle_only=config.idle_only, models=[], sold=0
    )


def _speaks_for_node(call: Call) -> bool:
    """Whether this caller may see where peers are and whom the node deals with; a token bound to an account may not."""
    return call.caller.account is None


def _keys(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
