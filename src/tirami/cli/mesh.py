"""``tirami mesh``, ``tirami pause``, ``tirami resume``: this node's own part on the mesh."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import (
    CallingEntry,
    FraudsReply,
    MeshReport,
    ProbeEntry,
    SellingReport,
    SellingRequest,
)
from tirami.cli import fraud
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.verify import verify_fraud

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


@commands.command()
def frauds(
    fraud_id: Annotated[str | None, typer.Argument(metavar="ID", help="Fetch this proof instead of the list.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Write the proof here; for `tirami verify`.")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Keys proven guilty by their own signatures, and the proof against one: a file that stands for itself."""
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        if fraud_id is None:
            if out is not None:
                raise typer.BadParameter("--out needs the ID of a proof")
            reply = client.frauds()
            terminal.show(reply.model_dump(), lambda console: _list(console, reply))
            return
        proof = client.fraud(fraud_id)
    verdict = verify_fraud(proof)  # whatever the node says is checked here, not believed
    if out is not None:
        out.write_bytes(proof)
    terminal.show(
        fraud.facts(verdict) | ({"file": str(out)} if out else {}), lambda console: fraud.show(console, verdict)
    )


def _list(console: Console, reply: FraudsReply) -> None:
    if not reply.frauds:
        console.print("nobody is proven guilty of anything")
        return
    for found in reply.frauds:
        console.print(f"{found.guilty} is proven guilty, as found at {when(found.at_ms)}\n  proof {found.id}")
    if reply.count > len(reply.frauds):
        console.print(f"and {reply.count - len(reply.frauds)} more, found before")


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
    if report.starting:
        return "Nothing is sold yet anyway: this node loads its model before it goes on the mesh."
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
        return "not yet: the model is loaded first" if report.starting else "off"
    called = f" ({len(report.calling)} called in vain)" if report.calling else ""
    return f"{report.peers} peers{called}, selling: {_selling(report.selling)}, buying: {report.buying.consume}"


def _calling(entry: CallingEntry) -> str:
    """What comes of calling a peer that is not reached."""
    again = f"called again in {entry.again_s} s" if entry.again_s else "it is called now"
    return f"{entry.failure or 'no answer yet'}; {again}"


def _reachable(probe: ProbeEntry | None, peers: int) -> str:
    if probe is None:
        return "no peer has looked yet"
    if not peers:
        return f"unknown: nobody is connected who could look now. Before: {_looked(probe)}"
    return _looked(probe)


def _looked(probe: ProbeEntry) -> str:
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
            "Reachable": _reachable(report.probe, report.peers),
            "Providers known": report.providers,
            "Offered": ", ".join(selling.models) or "nothing",
            "Free places": f"{selling.free}{', only while nobody here is served' if selling.idle_only else ''}",
            "Sold, bought": f"{selling.sold}, {buying.bought} since the start",
            "Trusted": ", ".join(key[:16] for key in buying.trusted) or "nobody by name",
            "Denied": ", ".join(key[:16] for key in buying.denied) or "nobody",
            "Most an answer": f"{buying.max_trm} TRM" if buying.max_trm else "as the account's policy says",
        }
    fields(console, "", facts)
    for entry in report.calling:
        console.print(f"  • Not reached: peer {entry.node_id[:16]}: {_calling(entry)}", markup=False)
    for statement in report.statements:
        console.print(f"  • {statement}", markup=False)
