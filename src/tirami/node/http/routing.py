"""Who serves: providers, schedule, route. A node alone knows one provider, itself."""

from tirami.api import Scope
from tirami.api.schemas import (
    ProviderEntry,
    ProvidersReply,
    ReservedTicket,
    RouteQuery,
    RouteReply,
    ScheduleReply,
    ScheduleRequest,
)
from tirami.core.errors import InvalidField, ProviderNotFound
from tirami.core.keys import parse_node_id
from tirami.core.units import MICRO, Trm
from tirami.infer import ModelCard
from tirami.market import Candidate, RouteMode, best, route_score, schedule_score
from tirami.node.http.caller import payer_of
from tirami.node.http.economy import REPUTATION
from tirami.node.http.handlers import Call, handles
from tirami.node.http.offers import local_candidate, offered, price_of, served
from tirami.node.http.pricing import cost


@handles("providers")
async def providers(call: Call) -> ProvidersReply:
    parts, engines = call.parts, served(call.parts)
    if not engines:
        return ProvidersReply(count=0, providers=[])
    price, income = price_of(parts, engines[0].card), parts.ledger.balance(parts.key.public_key).income
    entry = ProviderEntry(
        node_id=parts.key.public_key.hex(),
        local=True,
        models=[engine.card.name for engine in engines],
        contributed_cu=income,
        contributed_trm=income,
        reputation=REPUTATION,
        cu_per_100_tokens=cost(price, 100),
        trm_per_100_tokens=cost(price, 100),
        base_trm_per_token=price.completion / MICRO,
        latency_ms=0,
    )
    return ProvidersReply(count=1, providers=[entry])


@handles("schedule")
async def schedule(call: Call) -> ScheduleReply:
    body: ScheduleRequest = call.body
    if body.consumer is not None and parse_node_id(body.consumer) == call.parts.key.public_key:
        raise InvalidField("a provider does not serve itself for pay; leave consumer out for own use", param="consumer")
    card = await offered(call.parts, body.model_id, any_name=call.forge)

    def cost_of(candidate: Candidate) -> Trm:
        return candidate.cost(body.prompt_tokens, body.max_tokens)

    chosen = best([local_candidate(call.parts, card)], lambda found: schedule_score(found, cost_of(found)))
    assert chosen is not None
    estimate = cost_of(chosen)
    return ScheduleReply(
        provider=chosen.provider.hex(),
        estimated_trm_cost=estimate,
        model_id=card.name,
        max_tokens=body.max_tokens,
        score=round(float(schedule_score(chosen, estimate)), 6),
        local=chosen.provider == call.parts.key.public_key,
        ticket=await _reserved(call, card, chosen, estimate) if body.reserve else None,
    )


@handles("route")
async def route(call: Call) -> RouteReply:
    query: RouteQuery = call.query
    card, mode = await offered(call.parts, query.model, any_name=call.forge), RouteMode(query.mode)
    candidates = [
        candidate
        for candidate in (local_candidate(call.parts, card),)
        if query.max_trm is None or candidate.cost(0, query.max_tokens) <= query.max_trm
    ]
    chosen = best(candidates, lambda candidate: route_score(candidate, mode))
    if chosen is None:
        raise ProviderNotFound(f"nobody serves {query.max_tokens} tokens for {query.max_trm} TRM", param="max_trm")
    estimate = chosen.cost(0, query.max_tokens)
    return RouteReply(
        provider=chosen.provider.hex(),
        model=card.name,
        estimated_cu=estimate,
        estimated_trm=estimate,
        provider_reputation=chosen.reputation / MICRO,
        score=round(float(route_score(chosen, mode)), 6),
        mode=mode.value,
    )


async def _reserved(call: Call, card: ModelCard, chosen: Candidate, amount: Trm) -> ReservedTicket:
    """Raises ``InsufficientScope``, ``SpendDenied``."""
    call.caller.require(Scope.INFERENCE)
    payer = payer_of(call.request, call.caller, call.parts)
    kept = await call.parts.market.reserve(payer, card, chosen.price, amount, call.request_id)
    return ReservedTicket(id=kept.hold_id.hex(), held_trm=kept.held, expires_ms=kept.expires_ms)
