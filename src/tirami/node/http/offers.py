"""What this node offers now: the engines it serves, at their prices. The one place that asks who serves a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tirami.core.units import MICRO, MicroTrm, Ppm
from tirami.infer import Engine, ModelCard
from tirami.ledger import LOCAL, Payer, Price, tier_of
from tirami.market import Candidate
from tirami.node.http.economy import REPUTATION
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
    """This node as a provider: no way to go, no bound on what it takes, the reputation everybody starts with."""
    return Candidate(
        provider=parts.key.public_key,
        price=price_of(parts, card),
        list_price=MicroTrm(tier_of(card.active_parameters).value * MICRO),
        reputation=Ppm(round(REPUTATION * MICRO)),
    )
