"""Health, readiness and status."""

from tirami.api.schemas.base import Reply
from tirami.api.schemas.economy import NetworkReply, TradeEntry


class HealthReply(Reply):
    status: str = "ok"
    model_loaded: bool


class ReadyReply(Reply):
    ready: bool
    components: dict[str, bool]
    protocol_version: int = 1


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


class StatusReply(Reply):
    status: str = "ok"
    version: str
    node_id: str
    started_ms: int
    model_loaded: bool
    engine: EngineReport
    storage_writable: bool
    protocol_version: int = 1
    protocol_features: list[str]
    market_price: MarketPrice
    network: NetworkReply
    recent_trades: list[TradeEntry]
