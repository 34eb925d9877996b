"""``tirami peers``: whom this node knows, what they offer, and why nothing is bought from them."""

from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

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
    if reply.starting:
        console.print("This node is not on the mesh yet: it loads its model first.")
        return
    if not reply.enabled:
        console.print("This node is not on the mesh: `tirami seed`, `tirami worker`, or mesh.enabled = true.")
        return
    console.print(f"{reply.count} peers known, {reply.connected} connected")
    for peer in reply.peers:
        for text, indent in ((_offer(peer), 0), (_chosen(peer), 2)):
            console.print(Padding(Text(text), (0, 0, 0, indent), expand=False), soft_wrap=False)  # broken between words


def _offer(peer: PeerEntry) -> str:
    """Where it is, and what it sells for how much."""
    facts = [_link(peer)]
    prices = ((offering.name, offering.price_out_utrm / 1000) for offering in peer.offerings)
    facts += [f"{name} at {price:.0f} TRM for 1000 tokens" for name, price in prices]
    if peer.offerings:
        facts.append(f"{peer.slots} free places")
    return f"{peer.node_id[:16]}  {', '.join([*facts, peer.audit_tier])}"


def _link(peer: PeerEntry) -> str:
    if not peer.connected:
        return "not reached" if peer.kept or peer.failure else "heard of"
    link = "connected over a relay" if peer.address is None else "connected"
    return link if peer.latency_ms is None else f"{link}, {peer.latency_ms:.0f} ms"


def _chosen(peer: PeerEntry) -> str:
    failure = "" if peer.connected or peer.failure is None else f" ({peer.failure})"
    ahead = peer.clock_ahead_ms or 0
    clock = f"; its clock is {apart(ahead)} ours" if NOTED_MS < abs(ahead) <= APART_MS else ""
    if peer.why_not:
        return f"bought from: no: {peer.why_not}{failure}{clock}"
    return "bought from: yes" + ("" if peer.score is None else f", score {peer.score:.3f}") + clock
