"""``tirami peers``: whom this node knows, what they offer, and why nothing is bought from them."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import PeerEntry, PeersQuery, PeersReply
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal
from tirami.core.clock import APART_MS, apart

NOTED_MS = 60_000
"""Between two clocks; beyond :data:`APART_MS` the node itself names it as the reason."""


def peers(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Judge them by this model.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 100,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Peers: connection, offer, price, and why one is not chosen. The best first."""
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.peers(PeersQuery(model=model, limit=limit))
    Terminal(json_output).show(reply.model_dump(), lambda console: _show(console, reply))


def _show(console: Console, reply: PeersReply) -> None:
    if not reply.enabled:
        console.print("This node is not on the mesh: `tirami seed`, `tirami worker`, or mesh.enabled = true.")
        return
    console.print(f"{reply.count} peers known, {reply.connected} connected")
    if not reply.peers:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("peer", min_width=16, no_wrap=True)
    for title in ("link", "ms"):
        table.add_column(title, no_wrap=True)
    table.add_column("models", min_width=12, overflow="fold")
    for title in ("TRM/1000", "places", "tier"):
        table.add_column(title)
    table.add_column("chosen?", overflow="fold")
    for peer in reply.peers:
        table.add_row(*map(escape, _row(peer)))
    console.print(table)


def _row(peer: PeerEntry) -> list[str]:
    link = ("relay" if peer.address is None else "direct") if peer.connected else "heard of"
    latency = "" if peer.latency_ms is None else f"{peer.latency_ms:.0f}"
    prices = [f"{offering.price_out_utrm / 1000:.0f}" for offering in peer.offerings]
    score = "" if peer.score is None else f" ({peer.score:.3f})"
    ahead = peer.clock_ahead_ms or 0
    clock = f"; its clock is {apart(ahead)} ours" if NOTED_MS < abs(ahead) <= APART_MS else ""
    return [
        peer.node_id[:16],
        link,
        latency,
        ", ".join(peer.models) or "–",
        ", ".join(prices) or "–",
        str(peer.slots),
        peer.audit_tier,
        (f"no: {peer.why_not}" if peer.why_not else f"yes{score}") + clock,
    ]
