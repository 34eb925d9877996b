"""What this node offers now: the engines it serves, at their prices. The one place that asks who serves a model."""

from tirami.core.units import MICRO, MicroTrm, Ppm
from tirami.infer import Engine
from tirami.ledger import Price, tier_of
from tirami.market import Candidate
from tirami.node.http.economy import REPUTATION
from tirami.node.parts import Parts

ANY_MODEL = "default"
"""The original's name for whatever is served."""


def served(parts: Parts) -> list[Engine]:
    """Engines that answer now."""
    engine = parts.engines.engine
    return [] if engine is None else [engine]


def serving(parts: Parts, model: str | None, *, any_name: bool = False) -> Engine:
    """The engine that serves a model; any, for ``None`` and ``default``. Raises ``NoModel``, ``ModelNotFound``."""
    return parts.engines.find(None if model == ANY_MODEL else model, any_name=any_name)


def price_of(parts: Parts, engine: Engine) -> Price:
    return parts.load.price(engine.card.active_parameters)


def local_candidate(parts: Parts, engine: Engine) -> Candidate:
    """This node as a provider: no way to go, no bound on what it takes, the reputation everybody starts with."""
    return Candidate(
        provider=parts.key.public_key,
        price=price_of(parts, engine),
        list_price=MicroTrm(tier_of(engine.card.active_parameters).value * MICRO),
        reputation=Ppm(round(REPUTATION * MICRO)),
    )
