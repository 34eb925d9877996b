"""What is on offer now: this node's engines at their prices, and what peers offer. The one place that asks who serves
a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from tirami.core.errors import ModelNotFound, NoModel
from tirami.core.units import MICRO, MicroTrm, Trm
from tirami.infer import Engine, ModelCard
from tirami.ledger import LOCAL, Payer, Price, tier_of
from tirami.market import Candidate, Provider
from tirami.node.parts import Parts

ANY_MODEL = "default"
"""The original's name for whatever is served."""


def served(parts: Parts) -> list[Engine]:
    """Engines that answer now."""
    return parts.engines.loaded


@asynccontextmanager
async def serving(parts: Parts, payer: Payer, model: str | None, *, any_name: bool = False) -> AsyncIterator[Engine]:
    """The engine that serves a model, loaded for ``payer``; any, for ``None`` and ``default``.

    Raises what :meth:`EngineRoom.use` raises.
    """
    name, owner = None if model == ANY_MODEL else model, payer.scope == LOCAL
    async with parts.engines.use(name, any_name=any_name, payer=payer.key, owner=owner) as served:
        yield served.engine


async def offered(parts: Parts, model: str | None, *, any_name: bool = False) -> ModelCard:
    """The card of the model :func:`serving` would serve; loads nothing. Raises what :meth:`EngineRoom.card` raises."""
    return await parts.engines.card(None if model == ANY_MODEL else model, any_name=any_name)


def price_of(parts: Parts, card: ModelCard) -> Price:
    return parts.load.price(card.active_parameters)


def local_candidate(parts: Parts, card: ModelCard) -> Candidate:
    """This node as a provider: no way to go, no bound on what it takes, the reputation its payers give it."""
    return Candidate(
        provider=parts.key.public_key,
        price=price_of(parts, card),
        list_price=MicroTrm(tier_of(card.active_parameters).value * MICRO),
        reputation=parts.membership.reputation(parts.key.public_key),
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """A model a node serves. ``card`` is ``None`` where that is a peer."""

    candidate: Candidate
    model: str
    card: ModelCard | None


def known_offers(parts: Parts, model: str | None) -> list[Offer]:
    """Of all who could begin now, this node first: also peers it would not buy from. ``None`` for any model."""
    cards = [engine.card for engine in served(parts) if model in (None, ANY_MODEL, engine.card.name)]
    view = parts.membership.view
    return [_own(parts, card) for card in cards] + _of_peers(view.providers(_named(model)) if view else [])


async def own_offers(parts: Parts, model: str | None, *, any_name: bool) -> list[Offer]:
    """Raises what :func:`offered` raises."""
    return [_own(parts, await offered(parts, model, any_name=any_name))]


async def offers(parts: Parts, model: str | None, *, any_name: bool) -> list[Offer]:
    """Of this node and of the peers it would buy from, never empty.

    Where it would ask peers before it lets a request wait, it offers nothing until a place is free,
    and of peers only those count.
    Raises what :func:`offered` raises; where peers are asked, too, what a chat would be told.
    """
    view, name = parts.membership.view, _named(model)
    full = parts.chat.crowded(name, any_name=any_name)
    if view and full and (over := view.sellers(full.digest)):
        own = _own(parts, full)
        return [replace(own, candidate=replace(own.candidate, available=Trm(0))), *_of_peers(over)]
    found = _of_peers(view.sellers(name) if view else [])
    try:
        return await own_offers(parts, model, any_name=any_name) + found
    except (ModelNotFound, NoModel) as error:
        if found:
            return found
        shop = parts.chat.shop_for(name, any_name=any_name)
        if shop is None:
            raise
        raise shop.unserved(name) from error


def _named(model: str | None) -> str | None:
    return None if model == ANY_MODEL else model


def _own(parts: Parts, card: ModelCard) -> Offer:
    return Offer(local_candidate(parts, card), card.name, card)


def _of_peers(found: list[Provider]) -> list[Offer]:
    return [Offer(provider.candidate, provider.offering.name, None) for provider in found]
