"""Health, readiness and status."""

from tirami.api.schemas.base import Reply
from tirami.api.schemas.economy import NetworkReply, TradeEntry
from tirami.api.schemas.mesh import MeshReport


class HealthReply(Reply):
    status: str = "ok"
    model_loaded: bool


class ReadyReply(Reply):
    ready: bool
    components: dict[str, bool]
    warnings: list[str]
    """Codes of what an operator should see to; the node still works."""
    slots_busy: int
    """Answers the engines work on now. Unlike the status, this waits for no disk: nothing here is of the book."""
    protocol_version: int = 1


class StatusWarning(Reply):
    code: str
    message: str


class MarketPrice(Reply):
    base_trm_per_token: int | None
    supply_factor: float
    demand_factor: float
    total_trades_ever: int


class EngineReport(Reply):
    """``model``, ``ready``, ``restarts`` and ``problem`` are those of the model a request gets that names none; slots,
    busy and waiting those of all models in memory."""

    model: str | None
    models: list[str]
    """All that are in memory."""
    ready: bool
    loading: bool
    """A model is on its way: being fetched, or read into memory."""
    slots: int
    busy: int
    waiting: int
    restarts: int
    problem: str | None
    device: str | None
    """What it computes on, in the engine's own words; ``null`` when it does not tell."""
    layers: int
    layers_offloaded: int | None
    """How many of the model's layers lie on a GPU; ``null`` when the engine does not tell."""
    tokens_per_second: float | None
    """Speed of recent answers, each by itself, smoothed; ``null`` before the first."""


class ActivityReport(Reply):
    """What goes on now, and what it has brought."""

    answers_running: int
    tokens_total: int
    """Tokens of all answers ever booked and of those still running: two readings give the rate between them."""
    earned_today_trm: int | None
    """Since midnight UTC; of what was booked before the node was first asked, only the newest 1 000 records count.
    ``null`` for tokens bound to an account, like the two below."""
    earned_total_trm: int | None
    effective_balance: int | None
    """What this node could spend now, TRM."""


class StatusReply(Reply):
    status: str = "ok"
    version: str
    node_id: str
    started_ms: int
    model_loaded: bool
    engine: EngineReport
    activity: ActivityReport
    storage_writable: bool
    warnings: list[StatusWarning]
    protocol_version: int = 1
    protocol_features: list[str]
    market_price: MarketPrice
    network: NetworkReply
    mesh: MeshReport
    recent_trades: list[TradeEntry]
