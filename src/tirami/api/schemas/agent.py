"""The node's own agent: what it may do, what it has spent, and the tasks the owner gives it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Reply, inconsistent
from tirami.api.schemas.chat import XTirami

Amount = Annotated[int, Field(ge=0, le=MAX_SAFE)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _absent(value: object) -> bool:
    return value is None


class AgentPreferences(Reply):
    """What the owner lets it do."""

    daily_spend_limit_trm: int
    """TRM a day (UTC)."""
    per_task_budget_trm: int
    auto_earn_enabled: bool
    """Whether others are served."""
    auto_spend_enabled: bool
    """Whether anything is bought without asking."""
    auto_stake_fraction: float
    """Without effect: there is no staking yet."""
    idle_utilization_threshold: float
    """Share of the places in use up to which the node counts as idle."""
    idle_grace_seconds: int
    min_peer_reputation: float
    """Who has less is not served."""
    content_filter: str
    """Without effect: there are no filters yet."""


class AgentPreferencesRequest(Body):
    """What is not named stays as it is."""

    daily_spend_limit_trm: Amount | None = None
    per_task_budget_trm: Amount | None = None
    auto_earn_enabled: bool | None = None
    auto_spend_enabled: bool | None = None
    auto_stake_fraction: Fraction | None = None
    """Nothing but 0.9: there is no staking yet."""
    idle_utilization_threshold: Fraction | None = None
    idle_grace_seconds: Annotated[int, Field(ge=0, le=2**32)] | None = None
    min_peer_reputation: Fraction | None = None
    content_filter: Annotated[str, Field(max_length=32)] | None = None
    """``none`` or ``default``, which mean the same: there are no filters yet."""


class AgentLoop(Reply):
    """Since the start of the node."""

    ticks: int
    """Times it has looked around."""
    last_action: str | None
    """What it decided last: in a look around, for a task, or about somebody who wanted to be served."""
    last_tick_ms: int | None


class AgentStatus(Reply):
    """Where ``configured`` is false, only ``summary`` and ``loop`` are there."""

    configured: bool
    wallet: Annotated[str | None, Field(exclude_if=_absent)] = None
    """The node's key: it pays for what the agent buys."""
    wallet_source: Annotated[Literal["machine_node"] | None, Field(exclude_if=_absent)] = None
    spent_today_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    """What its tasks have cost today, those that are over."""
    reserved_today_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    """The most that its tasks under way may still cost."""
    earned_today_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    """What others have paid to the node's key today."""
    net_today_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    day_started_at_ms: Annotated[int | None, Field(exclude_if=_absent)] = None
    """Midnight UTC."""
    preferences: Annotated[AgentPreferences | None, Field(exclude_if=_absent)] = None
    loop: AgentLoop
    summary: str


class AgentPeer(Body):
    """Who is to do a task. It is called and paid by its key, over the mesh."""

    node_id: AccountId
    url: Annotated[str, Field(max_length=2048)] | None = None
    """Ignored: no address a caller names is called."""

    @model_validator(mode="before")
    @classmethod
    def _keep_tokens_here(cls, value: Any) -> Any:
        """A credential is never passed on; whoever sends one believes it is."""
        if isinstance(value, dict) and value.get("api_token") is not None:
            raise inconsistent("api_token", "no token is ever sent to a peer: leave it out, and keep it to yourself")
        return value


class AgentTaskRequest(Body):
    prompt: Annotated[str, Field(pattern=r"\S")]
    max_tokens: Annotated[int, Field(ge=1, le=2**32 - 1)] = 256
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """``null`` or ``active`` for any."""
    size: Literal["local", "remote", "hybrid"] | None = None
    """Where it runs: on this node, or at a peer. Up to 256 tokens are local where nothing is said."""
    estimated_trm: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    """The most it may cost; one hundredth of ``max_tokens`` where nothing is said."""
    peer: AgentPeer | None = None


class AgentTaskReply(Reply):
    """What became of a task. Which further fields are there, follows from ``status``."""

    task_id: str
    status: Literal["run_local", "run_remote", "ask_user", "refused"]
    output: Annotated[str | None, Field(exclude_if=_absent)] = None
    """Where it ran."""
    tokens: Annotated[int | None, Field(exclude_if=_absent)] = None
    finish_reason: Annotated[str | None, Field(exclude_if=_absent)] = None
    cost_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    trade_id: Annotated[str | None, Field(exclude_if=_absent)] = None
    """``trade_ids`` has all of them."""
    trade_ids: Annotated[tuple[str, ...] | None, Field(exclude_if=_absent)] = None
    provider: Annotated[str | None, Field(exclude_if=_absent)] = None
    """Where it was bought."""
    reason: Annotated[str | None, Field(exclude_if=_absent)] = None
    """Why the owner is asked, or it was refused."""
    estimated_cost_trm: Annotated[int | None, Field(exclude_if=_absent)] = None
    """What it may cost; where nobody does it for the estimate, what the cheapest asks."""
    size: Annotated[str | None, Field(exclude_if=_absent)] = None
    action: Annotated[str | None, Field(exclude_if=_absent)] = None
    """What was decided instead, where it was refused."""
    x_tirami: Annotated[XTirami | None, Field(exclude_if=_absent)] = None
    """Cost and proof, where it ran."""
