"""``tirami mesh``, ``tirami pause``, ``tirami resume``: this node's own part on the mesh."""

from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import MeshReport, ProbeEntry, SellingReport, SellingRequest
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when

commands = typer.Typer(no_args_is_help=True, help="This node on the mesh.")
Operator = Annotated[str, typer.Option(envvar="USER", help="Your name, recorded in the journal.")]


@commands.callback()
def everywhere() -> None:
    """This node on the mesh."""


@commands.command()
def status(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """What is sold and bought, where others find this node, and what leaves this machine."""
    with connect(url, token, data_dir, admin=True) as client:
        report = client.mesh()
    Terminal(json_output).show(report.model_dump(), lambda console: _show(console, report))


def pause(
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Serve no new strangers until `resume`, also after a restart. Running answers go on to their end."""
    _set(True, operator, url, token, data_dir, json_output)


def resume(
    operator: Operator = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Serve strangers again."""
    _set(False, operator, url, token, data_dir, json_output)


def _set(paused: bool, operator: str, url: Url, token: Token, data_dir: DataDir, json_output: bool) -> None:
    with connect(url, token, data_dir, admin=True) as client:
        before = client.mesh()
        reply = client.set_selling(SellingRequest(paused=paused, operator=operator))
        idle = _sells_nothing(before if paused else client.mesh())
    running = f"; {reply.running} running answers go on" if paused and reply.running else ""
    text = f"→ paused: strangers are not served{running}" if paused else "→ strangers are served again"
    terminal = Terminal(json_output)
    terminal.show(reply.model_dump(), lambda console: console.print(text))
    if idle is not None:
        terminal.note(idle)


def _sells_nothing(report: MeshReport) -> str | None:
    """Why nothing is sold anyway; ``None`` where something could be, but for a pause."""
    if not report.enabled:
        return "Nothing is sold anyway: this node is not on the mesh. It remembers this for when it is."
    if report.selling.paused:
        return None
    if not report.selling.on:
        return "Nothing is sold anyway: mesh.sell is off, the kill switch is thrown, or this node's key has ended."
    return None if report.selling.models else "Nothing is sold anyway: no model is loaded whose answers can be checked."


def in_short(report: MeshReport) -> str:
    """One line of it."""
    if not report.enabled:
        return "off"
    return f"{report.peers} peers, selling: {_selling(report.selling)}, buying: {report.buying.consume}"


def _reachable(probe: ProbeEntry | None) -> str:
    if probe is None:
        return "no peer has looked yet"
    at = when(probe.at_ms)
    by = f"peer {probe.by[:16]}" if probe.by else "a peer"
    if probe.rtt_ms is None:
        return f"no: {by} called in vain at {at}; only nodes this one calls are met"
    return f"yes: {by} called and had an answer in {probe.rtt_ms:.0f} ms at {at}"


def _selling(selling: SellingReport) -> str:
    if selling.paused:
        return "PAUSED"
    return f"{selling.running} of {selling.slots} places in use" if selling.on else "off"


def _show(console: Console, report: MeshReport) -> None:
    selling, buying = report.selling, report.buying
    facts: dict[str, object] = {"Mesh": in_short(report)}
    if report.enabled:
        facts |= {
            "Address": report.address or "not for this token to see",
            "Relay": report.relay,
            "Reachable": _reachable(report.probe),
            "Providers known": report.providers,
            "Offered": ", ".join(selling.models) or "nothing",
            "Free places": f"{selling.free}{', only while nobody here is served' if selling.idle_only else ''}",
            "Sold, bought": f"{selling.sold}, {buying.bought} since the start",
            "Trusted": ", ".join(key[:16] for key in buying.trusted) or "nobody by name",
            "Denied": ", ".join(key[:16] for key in buying.denied) or "nobody",
            "Most an answer": f"{buying.max_trm} TRM" if buying.max_trm else "as the account's policy says",
        }
    fields(console, "", facts)
    for statement in report.statements:
        console.print(f"  • {statement}", markup=False)
