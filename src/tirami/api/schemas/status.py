"""Health, readiness and status."""

from tirami.api.schemas.base import Reply
from tirami.api.schemas.economy import NetworkReply, TradeEntry


class HealthReply(Reply):
    status: str = "ok"
    model_loaded: bool


class ReadyReply(Reply):
    ready: bool
    components: dict[str, bool]
    warnings: list[str]
    """Codes of what an operator should see to; the node still works."""
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
    model: str | None
    ready: bool
    loading: bool
    """A model is on its way: being fetched, or read into memory."""
    slots: int
    busy: int
    waiting: int
    restarts: int
    problem: str | None


class StatusReply(Reply):
    status: str = "ok"
    version: str
    node_id: str
    started_ms: int
    model_loaded: bool
    engine: EngineReport
    storage_writable: bool
    warnings: list[StatusWarning]
    protocol_version: int = 1
    protocol_features: list[str]
    market_price: MarketPrice
    network: NetworkReply
    recent_trades: list[TradeEntry]
