"""The picture that ``tirami top`` draws of a node."""

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tirami.api.schemas import EngineReport, MarketPrice, SafetyReply, StatusReply, TradeEntry
from tirami.cli.times import when

TRADES = 10


def drawn(
    status: StatusReply | None,
    safety: SafetyReply | None,
    rate: float | None,
    *,
    problem: str | None = None,
    hint: str = "",
) -> RenderableType:
    """One frame. ``status`` and ``safety`` are the newest known, ``problem`` why they are old, if they are."""
    parts: list[RenderableType] = []
    if problem is not None:
        parts.append(Text(problem, style="bold red"))
    if status is not None and safety is not None:
        parts += [_title(status), _facts(status, safety, rate), _trades(status.recent_trades[:TRADES])]
    if hint:
        parts.append(Text(hint, style="dim"))
    return Group(*parts)


def _title(status: StatusReply) -> Text:
    minutes = max(0, int(time.time() * 1000) - status.started_ms) // 60_000
    uptime = f"up {minutes // 1440} d {minutes // 60 % 24:02}:{minutes % 60:02}"
    return Text.assemble(("Tirami ", "bold green"), f"{status.version}  {status.node_id[:16]}…  {uptime}")


def _facts(status: StatusReply, safety: SafetyReply, rate: float | None) -> Table:
    engine, activity = status.engine, status.activity
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    table.add_row("Model", Text(_model(engine)))
    if engine.slots:
        table.add_row("Load", ProgressBar(total=engine.slots, completed=engine.busy, width=32))
    streams = f"{activity.answers_running} running on {engine.slots} slots, {engine.waiting} waiting"
    table.add_row("Streams", f"{streams}, {engine.restarts} restarts")
    each = "" if engine.tokens_per_second is None else f", {engine.tokens_per_second:.1f} in one answer"
    table.add_row("Tokens/s", ("—" if rate is None else f"{rate:.1f}") + each)
    if activity.earned_total_trm is not None:
        table.add_row("Earned", f"{activity.earned_today_trm} TRM today, {activity.earned_total_trm} TRM in all")
        table.add_row("Balance", f"{activity.effective_balance} TRM to spend")
    table.add_row("Own use", f"{status.network.local_trades} answers, {status.network.local_volume_trm} TRM")
    table.add_row("Price", _price(status.market_price))
    table.add_row("Book", f"sum {status.network.sum_of_accounts}, {status.network.log_size} leaves in the log")
    table.add_row("Safety", _safety(status, safety))
    return table


def _model(engine: EngineReport) -> str:
    if engine.model is None or not engine.ready:
        return f"none: {engine.problem}" if engine.model is None else f"{engine.model}, not ready: {engine.problem}"
    if engine.device is None:
        return engine.model
    return f"{engine.model} on {engine.device}, {engine.layers_offloaded} of {engine.layers} layers offloaded"


def _price(price: MarketPrice) -> str:
    base = "no model" if price.base_trm_per_token is None else f"{price.base_trm_per_token} TRM a token"
    return f"{base} × {price.demand_factor:.2f} demand × {price.supply_factor:.2f} supply"


def _safety(status: StatusReply, safety: SafetyReply) -> Text:
    alarms = [
        f"KILL SWITCH ACTIVE: {safety.kill_reason or 'no reason given'}" if safety.kill_switch_active else "",
        f"HALTED: {safety.halted}" if safety.halted else "",
        f"BREAKER {safety.circuit.state.upper()}: too many {safety.circuit.cause}" if safety.circuit_tripped else "",
        "" if status.storage_writable else "STORAGE NOT WRITABLE: selling has stopped",
        f"BOOK OUT OF BALANCE by {status.network.sum_of_accounts} TRM" if status.network.sum_of_accounts else "",
    ]
    raised = [alarm for alarm in alarms if alarm]
    return Text("; ".join(raised), style="bold red") if raised else Text("all clear", style="green")


def _trades(trades: list[TradeEntry]) -> RenderableType:
    if not trades:
        return Text("No trades yet", style="dim")
    table = Table("Trade", "TRM", "Tokens", "Scope", "When", box=None, header_style="bold", pad_edge=False)
    for trade in trades:
        tokens = f"{trade.prompt_tokens} + {trade.tokens_processed}"
        table.add_row(trade.id[:16], str(trade.trm_amount), tokens, trade.scope, when(trade.timestamp))
    return table
