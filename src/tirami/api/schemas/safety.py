"""Kill switch, limits, circuit breaker, denials."""

from typing import Annotated, Any, Literal

from pydantic import Field, computed_field, model_validator

from tirami.api.legacy import one_name
from tirami.api.schemas.approvals import ApprovalEntry
from tirami.api.schemas.base import MAX_SAFE, AccountId, Body, Query, Reply

Limit = Annotated[int, Field(ge=0, le=MAX_SAFE)] | None
"""``null`` switches this limit off."""


class PolicyEntry(Reply):
    max_cu_per_request: int | None
    max_cu_per_hour: int | None
    max_cu_lifetime: int | None
    human_approval_threshold: int | None
    """TRM; a spend above it waits for an approval."""
    max_spends_per_minute: int | None
    """Spends in one sliding minute; one more opens the circuit breaker."""

    @computed_field
    def max_trm_per_request(self) -> int | None:
        return self.max_cu_per_request

    @computed_field
    def max_trm_per_hour(self) -> int | None:
        return self.max_cu_per_hour

    @computed_field
    def max_trm_lifetime(self) -> int | None:
        return self.max_cu_lifetime


class CircuitEntry(Reply):
    """The account's circuit breaker."""

    state: Literal["closed", "open", "half_open"]
    cause: Literal["errors", "velocity"] | None
    errors: int
    """Failures in a row, of the engine or of settlement; the fifth opens the breaker."""
    until_ms: int
    """When an open breaker lets one spend through to try; 0 while closed."""


class DenialEntry(Reply):
    at_ms: int
    node_id: str
    """Who wanted to spend; empty when no account was asked about."""
    amount: int | None
    """TRM wanted; ``null`` for a running session."""
    code: str
    message: str


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
    """Why the node stopped spending by itself: the book does not add up. Releasing the switch does not lift it."""
    book_checked_ms: int
    """When the sum over all accounts was last added up anew; every minute, 0 before the first time."""
    hourly_spend: int
    lifetime_spend: int
    spends_last_minute: int
    circuit_tripped: bool
    """The breaker is not closed."""
    circuit: CircuitEntry
    reserved: int
    open_sessions: int
    policy: PolicyEntry | None
    """``null`` for the owner, whom limits do not bind."""
    approvals: list[ApprovalEntry]
    """Waiting, and approved but not yet used."""
    denials: list[DenialEntry]
    """The last 100 since the node started, newest first; of everybody, unless the caller speaks for an account or
    names one."""


class KillRequest(Body):
    activate: bool
    reason: Annotated[str, Field(max_length=512)] = ""
    operator: Annotated[str, Field(max_length=128)] = ""
    """A note beside who called, which the journal knows from the token."""
    mesh: bool = False
    """Also every node of this operator: those whose ``mesh.operator`` is this node's key."""


class KillOrderReport(Reply):
    """What became of an order to the mesh within a second. Who is named signed it; nobody else is claimed."""

    peers: int
    """Connected peers it was sent to, strangers' among them, which pass it on."""
    obeyed: list[str]
    """Nodes that say they carried it out, without this one."""
    refused: dict[str, str]
    """Nodes that say they did not, and why."""


class KillReply(Reply):
    status: str
    active: bool
    reason: str
    operator: str
    """As journaled: the hash of the caller's token or ``owner``, then its note."""
    position: int
    mesh: KillOrderReport | None = None
    """``null`` for an order to this node alone."""


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_Change = Annotated[Limit, Field(json_schema_extra=_without_default)]
"""An absent limit stays as it is; that is no value of it, so the schema shows no default."""


class PolicyRequest(Body):
    """Limits that are absent stay as they are set."""

    node_id: AccountId
    max_cu_per_request: _Change = None
    max_cu_per_hour: _Change = None
    max_cu_lifetime: _Change = None
    human_approval_threshold: _Change = None
    max_spends_per_minute: _Change = None

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, values: Any) -> Any:
        return one_name("set_policy", values, keep_legacy=True)


class PolicyReply(Reply):
    status: str = "policy set"
    node_id: str
    policy: PolicyEntry
