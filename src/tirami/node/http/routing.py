"""Who serves: providers, schedule, route. A node off the mesh knows one provider, itself."""

from fractions import Fraction

from tirami.api import Scope
from tirami.api.schemas import (
    ProviderEntry,
    ProvidersQuery,
    ProvidersReply,
    ReservedTicket,
    RouteQuery,
    RouteReply,
    ScheduleReply,
    ScheduleRequest,
)
from tirami.core.errors import InvalidField, InvalidRequest, ModelNotFound, NoModel, ProviderNotFound
from tirami.core.keys import PublicKey, parse_node_id
from tirami.core.units import MICRO, Trm
from tirami.infer import ModelCard
from tirami.market import Candidate, RouteMode, best, route_score, schedule_score, shown
from tirami.node.http.caller import payer_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.offers import Offer, known_offers, offers, own_offers
from tirami.node.http.pricing import cost


@handles("providers")
async def providers(call: Call) -> ProvidersReply:
    query: ProvidersQuery = call.query
    mode = RouteMode(query.mode)

    def score(offer: Offer) -> Fraction:
        return route_score(offer.candidate, mode, offer.candidate.cost(0, query.max_tokens))

    nodes: dict[PublicKey, list[Offer]] = {}
    for offer in known_offers(call.parts, query.model):
        nodes.setdefault(offer.candidate.provider, []).append(offer)
    firsts = [(max(found, key=score), found) for found in nodes.values()]
    firsts.sort(key=lambda entry: (-score(entry[0]), entry[0].candidate.provider))
    entries = [_entry(call, chosen, found, shown(score(chosen))) for chosen, found in firsts]
    return ProvidersReply(count=len(entries), providers=entries)


@handles("schedule")
async def schedule(call: Call) -> ScheduleReply:
    body: ScheduleRequest = call.body
    own = call.parts.key.public_key
    consumer = parse_node_id(body.consumer) if body.consumer is not None else None
    if consumer == own:
        raise InvalidField("a provider does not serve itself for pay; leave consumer out for own use", param="consumer")
    if body.reserve:
        found = await _reservable(call, body.model_id)
    else:
        found = await offers(call.parts, body.model_id, any_name=call.forge)

    def cost_of(candidate: Candidate) -> Trm:
        return candidate.cost(body.prompt_tokens, body.max_tokens)

    candidates = [offer.candidate for offer in found if offer.candidate.provider != consumer]
    chosen = best(candidates, lambda candidate: schedule_score(candidate, cost_of(candidate)))
    if chosen is None:
        raise ProviderNotFound("nobody but the consumer itself serves this", param="consumer")
    offer, estimate = _of(found, chosen), cost_of(chosen)
    ticket = await _reserved(call, offer.card) if body.reserve and offer.card is not None else None
    return ScheduleReply(
        provider=chosen.provider.hex(),
        estimated_trm_cost=ticket.held_trm if ticket else estimate,
        model_id=offer.model,
        max_tokens=body.max_tokens,
        score=round(float(schedule_score(chosen, estimate)), 6),
        local=chosen.provider == own,
        ticket=ticket,
    )


@handles("route")
async def route(call: Call) -> RouteReply:
    query: RouteQuery = call.query
    mode, found = RouteMode(query.mode), await offers(call.parts, query.model, any_name=call.forge)

    def cost_of(candidate: Candidate) -> Trm:
        return candidate.cost(0, query.max_tokens)

    def score(candidate: Candidate) -> Fraction:
        return route_score(candidate, mode, cost_of(candidate))

    most = query.max_trm
    chosen = best((offer.candidate for offer in found if most is None or cost_of(offer.candidate) <= most), score)
    if chosen is None:
        raise ProviderNotFound(f"nobody serves {query.max_tokens} tokens for {most} TRM", param="max_trm")
    estimate = cost_of(chosen)
    return RouteReply(
        provider=chosen.provider.hex(),
        model=_of(found, chosen).model,
        estimated_cu=estimate,
        estimated_trm=estimate,
        provider_reputation=chosen.reputation / MICRO,
        score=shown(score(chosen)),
        mode=mode.value,
    )


async def _reservable(call: Call, model: str) -> list[Offer]:
    """This node's own: a hold without a session, and what a peer keeps free for us only its quote can say.

    Raises ``InvalidRequest`` for what only peers serve, and what :func:`own_offers` raises.
    """
    try:
        return await own_offers(call.parts, model, any_name=call.forge)
    except (ModelNotFound, NoModel):
        await offers(call.parts, model, any_name=call.forge)  # the same error, where no peer serves it either
    message = f"only models of this node can be reserved, and {model!r} is served by peers only"
    raise InvalidRequest(message, param="reserve")


def _of(found: list[Offer], chosen: Candidate) -> Offer:
    return next(offer for offer in found if offer.candidate is chosen)


def _entry(call: Call, chosen: Offer, found: list[Offer], score: float) -> ProviderEntry:
    candidate, view = chosen.candidate, call.parts.membership.view
    local = candidate.provider == call.parts.key.public_key
    income = _income(call, candidate.provider)
    return ProviderEntry(
        node_id=candidate.provider.hex(),
        local=local,
        models=[offer.model for offer in found],
        model=chosen.model,
        score=score,
        why_not=None if local or view is None else view.why_not(candidate.provider, chosen.model),
        contributed_cu=income,
        contributed_trm=income,
        reputation=candidate.reputation / MICRO,
        cu_per_100_tokens=cost(candidate.price, 100),
        trm_per_100_tokens=cost(candidate.price, 100),
        base_trm_per_token=candidate.price.completion / MICRO,
        latency_ms=candidate.latency_ms,
    )


def _income(call: Call, provider: PublicKey) -> Trm | None:
    """What it earned, for whoever may see its account (API-04)."""
    if call.caller.account not in (None, provider):
        return None
    return call.parts.ledger.balance(provider).income


async def _reserved(call: Call, card: ModelCard) -> ReservedTicket:
    """Raises ``InsufficientScope``, ``SpendDenied``."""
    call.caller.require(Scope.INFERENCE)
    body: ScheduleRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    kept = await call.parts.market.reserve(payer, card, body.prompt_tokens, body.max_tokens, call.request_id)
    return ReservedTicket(id=kept.hold_id.hex(), held_trm=kept.held, expires_ms=kept.expires_ms)
