"""Who serves: providers, schedule, route."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tirami.api.legacy import one_name
from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Query, Reply

Tokens = Annotated[int, Field(ge=0, le=MAX_SAFE)]
MAX_TOKENS = 1 << 32
"""Far beyond any context, and what it costs is still an amount the book can hold."""
ModelName = Annotated[str, Field(min_length=1, max_length=256)]


Mode = Literal["cost", "quality", "balanced"]


class ProvidersQuery(Query):
    model: ModelName | None = None
    """Only who serves this one."""
    mode: Mode = "balanced"
    """``balanced`` is the scheduler's own order."""
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 1000
    """Length of the answer that is scored."""


class ProviderEntry(Reply):
    """A provider that could begin now. Prices and score are those of ``model``, its best where none was asked for."""

    node_id: str
    local: bool
    """Whether it is this node."""
    models: list[str]
    model: str
    score: float
    why_not: str | None
    """Why this node would not buy from it; ``null`` where it would."""
    contributed_cu: int | None
    contributed_trm: int | None
    """What it earned, as far as this node's book knows; ``null`` for a caller that speaks for another account."""
    reputation: float
    cu_per_100_tokens: int
    trm_per_100_tokens: int
    base_trm_per_token: float
    """TRM a token now."""
    latency_ms: int


class ProvidersReply(Reply):
    count: int
    providers: list[ProviderEntry]


class ScheduleRequest(Body):
    model_id: ModelName
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    prompt_tokens: Tokens = 0
    consumer: AccountId | None = None
    """Who will ask; no provider serves itself for pay, except this node its owner."""
    reserve: bool = False
    """Hold the estimate for the payer of this call and return a ticket. Only for models of this node."""


class ReservedTicket(Reply):
    """Send ``id`` as ``X-Tirami-Ticket`` with one call for inference of the same payer and model, before it expires."""

    id: str
    held_trm: int
    expires_ms: int


class ScheduleReply(Reply):
    provider: str
    estimated_trm_cost: int
    model_id: str
    max_tokens: int
    score: float
    local: bool
    ticket: ReservedTicket | None


class RouteQuery(Query):
    model: ModelName = "default"
    """``default`` is whatever is served."""
    max_trm: Tokens | None = None
    mode: Mode = "balanced"
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 1000

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, values: Any) -> Any:
        return one_name("route", values)


class RouteReply(Reply):
    provider: str
    model: str
    estimated_cu: int
    estimated_trm: int
    provider_reputation: float
    score: float
    mode: str
