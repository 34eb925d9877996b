"""Prices now, and the price of one call before it is made."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tirami.api.schemas import (
    ModelPrice,
    PriceBounds,
    PricingReply,
    QuoteReply,
    QuoteRequest,
    Refusal,
)
from tirami.core.keys import PublicKey
from tirami.core.units import MICRO, Trm
from tirami.infer import Engine, Sampling
from tirami.ledger import (
    DEMAND_BOUNDS,
    SUPPLY_BOUNDS,
    SUPPLY_FACTOR,
    Price,
    raw_demand,
    tier_of,
)
from tirami.market import Estimate, Order
from tirami.node.chat import ChatCall, check_sold
from tirami.node.http.caller import payer_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.offers import price_of, served, serving
from tirami.node.http.openai.asking import quote_call
from tirami.node.http.openai.naming import named
from tirami.node.parts import Parts
from tirami.proto import amount_due

if TYPE_CHECKING:
    from tirami.node.mesh.shop import Shop

DEFLATION = 1.0
"""R-08."""


@handles("pricing", shows_book=True)
async def pricing(call: Call) -> PricingReply:
    parts = call.parts
    engines, room, state = served(parts), parts.engines.room, parts.ledger.state
    price = price_of(parts, engines[0].card) if engines else parts.load.price(0)
    return PricingReply(
        trm_per_token=price.completion / MICRO,
        supply_factor=SUPPLY_FACTOR / MICRO,
        demand_factor=parts.load.factor / MICRO,
        raw_demand_factor=raw_demand(room.running, room.waiting, room.slots) / MICRO,
        half_life_s=parts.config.pricing.half_life_s,
        follows_load=parts.config.pricing.follow_load,
        bounds=PriceBounds(
            supply_factor=(SUPPLY_BOUNDS[0] / MICRO, SUPPLY_BOUNDS[1] / MICRO),
            demand_factor=(DEMAND_BOUNDS[0] / MICRO, DEMAND_BOUNDS[1] / MICRO),
        ),
        cu_purchasing_power=1 / DEFLATION,
        trm_purchasing_power=1 / DEFLATION,
        deflation_factor=DEFLATION,
        total_trades_ever=state.network_totals.trades + state.local_totals.trades,
        estimated_cost_100_tokens=cost(price, 100),
        estimated_cost_1000_tokens=cost(price, 1000),
        models=[_model_price(parts, engine) for engine in engines],
    )


@handles("quote", shows_book=True)
async def quote(call: Call) -> QuoteReply:
    body: QuoteRequest = call.body
    parts = call.parts
    asked = quote_call(call, payer_of(call.request, call.caller, parts), body)
    with named(max_tokens=body.limit_name):
        bought = await parts.chat.elsewhere(asked, partial(_remote_quote, parts))
        return await _own_quote(parts, asked) if bought is None else bought


async def _own_quote(parts: Parts, asked: ChatCall) -> QuoteReply:
    async with serving(parts, asked.payer, asked.model, any_name=asked.any_name) as engine:
        prompt = await engine.prepare(asked.messages, asked.tools, asked.shaping.schema)
    sampling, most = Sampling(max_tokens=asked.max_tokens or 0, seed=0), asked.max_tokens
    first = Order(asked.payer, engine, prompt, sampling, most, asked.request_id)
    orders = [first, *[replace(first, prompt_billed=False)] * (asked.choices - 1)]
    card = engine.card
    return _quoted(parts, first, parts.market.estimate(orders), card.name, card.digest, parts.key.public_key)


async def _remote_quote(parts: Parts, asked: ChatCall, shop: "Shop") -> QuoteReply:
    check_sold(asked)
    provider, order = await shop.foreseen(asked, Sampling(max_tokens=asked.max_tokens or 0, seed=0))
    candidate, offering, prompt, most = provider.candidate, provider.offering, order.prompt.count, order.max_tokens
    assert most is not None
    ceiling = candidate.cost(prompt, most)
    denied = parts.ledger.gate.foreseen(order.payer.key, ceiling)
    estimate = Estimate(candidate.price, most, candidate.cost(prompt, 1), ceiling, denied)
    return _quoted(parts, order, estimate, offering.name, offering.model_digest, candidate.provider)


def _quoted(
    parts: Parts, order: Order, estimate: Estimate, model: str, digest: bytes, provider: PublicKey
) -> QuoteReply:
    denied, payer, ledger = estimate.denied, order.payer, parts.ledger
    return QuoteReply(
        model=model,
        digest=digest.hex(),
        provider=provider.hex(),
        remote=provider != parts.key.public_key,
        prompt_tokens=order.prompt.count,
        prompt_exact=order.prompt.exact,
        max_tokens=estimate.max_tokens,
        price_in_utrm=estimate.price.prompt,
        price_out_utrm=estimate.price.completion,
        least_trm=estimate.least,
        ceiling_trm=estimate.ceiling,
        payer=payer.key.hex(),
        effective_balance=ledger.balance(payer.key).effective,
        admitted=denied is None,
        refusal=None if denied is None else Refusal(code=denied.code, message=denied.message, status=denied.status),
        network=ledger.network.id,
        network_hash=ledger.network.hash.hex(),
    )


def cost(price: Price, tokens: int) -> Trm:
    """TRM for writing so many tokens."""
    return amount_due(price.prompt, price.completion, 0, tokens)


def _model_price(parts: Parts, engine: Engine) -> ModelPrice:
    card, price = engine.card, price_of(parts, engine.card)
    tier = tier_of(card.active_parameters)
    return ModelPrice(
        id=card.name,
        digest=card.digest.hex(),
        tier=tier.name.lower(),
        base_trm_per_token=tier.value,
        context_length=card.context_length,
        price_in_utrm=price.prompt,
        price_out_utrm=price.completion,
        estimated_cost_100_tokens=cost(price, 100),
        estimated_cost_1000_tokens=cost(price, 1000),
    )
