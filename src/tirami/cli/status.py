"""``tirami status``: what the node is doing."""

from rich.console import Console

from tirami.api.schemas import EngineReport, StatusReply
from tirami.cli.mesh import in_short
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields


def status(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """What the node is doing: model, price, book, latest trades."""
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.status()
    Terminal(json_output).show(reply.model_dump(), lambda console: _show(console, reply))


def _show(console: Console, reply: StatusReply) -> None:
    engine, network, price = reply.engine, reply.network, reply.market_price
    base = "no model" if price.base_trm_per_token is None else f"{price.base_trm_per_token} TRM a token"
    facts = {
        "Status": reply.status,
        "Node": reply.node_id,
        "Version": reply.version,
        "Model loaded": engine.model if reply.model_loaded else f"no ({engine.problem})",
        "Engine": f"{engine.busy} of {engine.slots} slots busy, {engine.waiting} waiting, {engine.restarts} restarts",
        "Device": _device(engine),
        "Protocol": f"v{reply.protocol_version}",
        "Features": ", ".join(reply.protocol_features),
        "Price": f"{base}, demand {price.demand_factor:.2f}, supply {price.supply_factor:.2f}",
        "Network": f"{network.network}: {network.total_trades} trades, {network.total_contributed_trm} TRM moved",
        "Own use": f"{network.local_trades} answers, {network.local_volume_trm} TRM",
        "Book": f"sum {network.sum_of_accounts}, log size {network.log_size}",
        "Mesh": in_short(reply.mesh),
        "Storage": "writable" if reply.storage_writable else "NOT WRITABLE: selling has stopped",
    }
    facts |= {f"WARNING {warning.code}": warning.message for warning in reply.warnings}
    fields(console, "", facts)
    console.print("  Recent trades:" + ("" if reply.recent_trades else "  none"))
    for trade in reply.recent_trades[:5]:
        amount = f"{trade.trm_amount:>6} TRM  {trade.tokens_processed:>5} tokens"
        console.print(f"    {trade.id[:16]}  {amount}  {trade.scope}")


def _device(engine: EngineReport) -> str:
    """Where the engine computes, and how fast it did lately."""
    where = "the engine does not tell"
    if engine.device is not None:
        where = f"{engine.device}, {engine.layers_offloaded} of {engine.layers} layers offloaded"
    return where if engine.tokens_per_second is None else f"{where}, {engine.tokens_per_second:.1f} tokens/s an answer"
