"""Prices now, and the price of one call before it is made."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tirami.api.schemas.base import MAX_SAFE, Body, Reply
from tirami.api.schemas.chat import ChatMessage
from tirami.api.schemas.sampling import MAX_CHOICES
from tirami.api.schemas.tools import MAX_TOOLS, ToolChoice, ToolSpec, check_tools


class ModelPrice(Reply):
    """What a served model costs now; prices in µTRM a token, estimates in TRM for tokens written."""

    id: str
    digest: str
    tier: str
    base_trm_per_token: int
    context_length: int
    price_in_utrm: int
    price_out_utrm: int
    estimated_cost_100_tokens: int
    estimated_cost_1000_tokens: int


class PriceBounds(Reply):
    """Least and most each factor can be."""

    supply_factor: tuple[float, float]
    demand_factor: tuple[float, float]


class PricingReply(Reply):
    """Price of the first served model (of the cheapest tier without one), and what moves it."""

    trm_per_token: float
    supply_factor: float
    demand_factor: float
    raw_demand_factor: float
    """Where the demand factor is on its way to: the load of this moment."""
    half_life_s: int
    """Time in which the demand factor goes half of that way."""
    follows_load: bool
    bounds: PriceBounds
    cu_purchasing_power: float
    trm_purchasing_power: float
    deflation_factor: float
    """Always 1: there is no deflation (R-08)."""
    total_trades_ever: int
    estimated_cost_100_tokens: int
    estimated_cost_1000_tokens: int
    models: list[ModelPrice]


class QuoteRequest(Body):
    """A chat request, as far as it moves the price; what else a chat may say is ignored."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tools(self.tools, self.tool_choice)
        return self

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def limit_name(self) -> str:
        """The field :attr:`most_tokens` is from."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"


class Refusal(Reply):
    code: str
    message: str
    status: int


class QuoteReply(Reply):
    """What the call would cost if it were made now. Nothing is held and nothing is promised."""

    model: str
    digest: str
    provider: str
    """Who would answer: this node, or the peer that would be asked first."""
    remote: bool
    """Whether that is a peer: the price is the one it signed last, and it may ask another when it is asked."""
    prompt_tokens: int
    prompt_exact: bool
    """Whether ``prompt_tokens`` will be the billed count; else it is an upper bound."""
    max_tokens: int
    """Of the first choice; another is given no fewer."""
    price_in_utrm: int
    price_out_utrm: int
    least_trm: int
    """For answers of one token."""
    ceiling_trm: int
    """What would be held: the most all choices together can cost. The prompt is billed once."""
    payer: str
    """Who would pay: what the owner buys of a peer is paid by the node."""
    effective_balance: int
    admitted: bool
    refusal: Refusal | None
    network: str
    network_hash: str
