"""Health, readiness, status."""

from contextlib import suppress

from starlette.responses import PlainTextResponse, Response

from tirami.api.schemas import (
    ActivityReport,
    EngineReport,
    HealthReply,
    MarketPrice,
    ReadyReply,
    StatusReply,
    StatusWarning,
    TradesQuery,
)
from tirami.core.errors import ModelLoadError
from tirami.core.units import DAY_MS, MICRO
from tirami.ledger import tier_of
from tirami.node.http.economy import network_reply
from tirami.node.http.handlers import Call, handles
from tirami.node.http.mesh import mesh_report
from tirami.node.http.replies import json_reply
from tirami.node.http.trades import trade_entries
from tirami.node.parts import Parts
from tirami.node.version import VERSION

FEATURES = [
    "anchor:op-return",
    "api:bearer-auth",
    "api:scopes",
    "log:rfc6962",
    "price:quote",
    "receipt:1",
    "settlement:1",
    "trade:dual-signature",
]


@handles("health")
async def health(call: Call) -> HealthReply:
    return HealthReply(model_loaded=call.parts.engines.ready)


@handles("healthz")
async def healthz(call: Call) -> Response:
    return PlainTextResponse("ok")


@handles("readyz")
async def readyz(call: Call) -> Response:
    components = {
        "engine": call.parts.engines.ready or _buys(call.parts),
        "queue": not call.parts.engines.room.full,
        "ledger": call.parts.ledger.gate.halted is None,
        "storage": call.parts.ledger.writable,
    }
    ready = all(components.values())
    warnings = [alert.code for alert in call.parts.alerts()]
    reply = ReadyReply(ready=ready, components=components, warnings=warnings, slots_busy=_slots_busy(call.parts))
    return json_reply(reply, 200 if ready else 503)


def _buys(parts: Parts) -> bool:
    """Whether a request that names no model would be answered by a peer, and there is one that sells."""
    view = parts.membership.view
    with suppress(ModelLoadError):  # what is pinned cannot be read: then nothing is bought
        return view is not None and parts.chat.shop_for(None) is not None and view.has_seller()
    return False


@handles("status", shows_book=True)
async def status(call: Call) -> StatusReply:
    parts = call.parts
    return StatusReply(
        version=VERSION,
        node_id=parts.key.public_key.hex(),
        started_ms=parts.started_ms,
        model_loaded=parts.engines.ready,
        engine=_engine(parts),
        activity=_activity(parts, owner=call.caller.account is None),
        storage_writable=parts.ledger.writable,
        warnings=_warnings(parts, owner=call.caller.account is None),
        protocol_features=FEATURES,
        market_price=_price(parts),
        network=network_reply(parts),
        mesh=mesh_report(parts, owner=call.caller.account is None),
        recent_trades=trade_entries(parts, TradesQuery(limit=10), call.caller.account).trades,
    )


def _warnings(parts: Parts, *, owner: bool) -> list[StatusWarning]:
    """A tenant is not told whose keys or which files they are about."""
    return [StatusWarning(code=one.code, message=one.message if owner else one.code) for one in parts.alerts()]


def _engine(parts: Parts) -> EngineReport:
    engines = parts.engines
    engine, loaded = engines.engine, engines.loaded
    now = engine.status() if engine else None
    return EngineReport(
        model=engine.card.name if engine else None,
        models=[each.card.name for each in loaded],
        ready=now.ready if now else False,
        loading=engines.loading,
        slots=sum(each.slots for each in loaded),
        busy=_slots_busy(parts),
        waiting=engines.room.waiting,
        restarts=now.restarts if now else 0,
        problem=engines.problem if now is None or now.ready else now.detail,
        device=(now.device or None) if now else None,
        layers=engine.card.layers if engine else 0,
        layers_offloaded=now.layers_offloaded if now else None,
        tokens_per_second=parts.meter.speed(engine.card.name) if engine else None,
    )


def _slots_busy(parts: Parts) -> int:
    return sum(each.status().busy for each in parts.engines.loaded)


def _activity(parts: Parts, *, owner: bool) -> ActivityReport:
    """``owner``: the caller speaks for the node, not for one account."""
    state = parts.ledger.state
    balance = parts.ledger.balance(parts.key.public_key)
    return ActivityReport(
        answers_running=parts.market.running,
        tokens_total=state.network_totals.tokens + state.local_totals.tokens + parts.market.tokens_running,
        earned_today_trm=_earned_today(parts) if owner else None,
        earned_total_trm=balance.income if owner else None,
        effective_balance=balance.effective if owner else None,
    )


def _earned_today(parts: Parts) -> int:
    today = parts.ledger.now() // DAY_MS
    return sum(day.earned.trm for _, day in parts.ledger.state.usage.of(parts.key.public_key, today))


def _price(parts: Parts) -> MarketPrice:
    engine, totals = parts.engines.engine, parts.ledger.state.network_totals
    return MarketPrice(
        base_trm_per_token=tier_of(engine.card.active_parameters).value if engine else None,
        supply_factor=1.0,
        demand_factor=parts.load.demand / MICRO,
        total_trades_ever=totals.trades + parts.ledger.state.local_totals.trades,
    )
