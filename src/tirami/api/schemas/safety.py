"""Kill switch and budgets."""

from typing import Annotated, Any

from pydantic import Field, computed_field, model_validator

from tirami.api.legacy import one_name
from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Query, Reply

Budget = Annotated[int, Field(ge=0, le=MAX_SAFE)] | None
"""TRM; ``null`` switches this budget off."""


class PolicyEntry(Reply):
    max_cu_per_request: int | None
    max_cu_per_hour: int | None
    max_cu_lifetime: int | None
    human_approval_threshold: None = None
    """Approvals come later; ``null`` says that there is none."""

    @computed_field
    def max_trm_per_request(self) -> int | None:
        return self.max_cu_per_request

    @computed_field
    def max_trm_per_hour(self) -> int | None:
        return self.max_cu_per_hour

    @computed_field
    def max_trm_lifetime(self) -> int | None:
        return self.max_cu_lifetime


class SafetyQuery(Query):
    node: AccountId | None = None


class SafetyReply(Reply):
    node_id: str
    kill_switch_active: bool
    kill_reason: str | None
    kill_operator: str | None
    kill_position: int
    """Journal position of the newest change of the switch; 0 before the first."""
    halted: str | None
    """Why the node stopped spending by itself: the book does not add up."""
    book_checked_ms: int
    """When the sum over all accounts was last added up anew; every minute, 0 before the first time."""
    hourly_spend: int
    lifetime_spend: int
    reserved: int
    open_sessions: int
    policy: PolicyEntry | None
    """``null`` for the owner, whom budgets do not bind."""


class KillRequest(Body):
    activate: bool
    reason: Annotated[str, Field(max_length=512)] = ""
    operator: Annotated[str, Field(max_length=128)] = ""


class KillReply(Reply):
    status: str
    active: bool
    reason: str
    operator: str
    position: int


class PolicyRequest(Body):
    """Absent budgets take their defaults."""

    node_id: AccountId
    max_cu_per_request: Budget = 4_000
    max_cu_per_hour: Budget = 10_000
    max_cu_lifetime: Budget = 1_000_000
    human_approval_threshold: None = None
    """Not served by this version; only ``null`` is accepted, so that nobody relies on it."""

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, values: Any) -> Any:
        return one_name("set_policy", values, keep_legacy=True)


class PolicyReply(Reply):
    status: str = "policy set"
    node_id: str
    policy: PolicyEntry
