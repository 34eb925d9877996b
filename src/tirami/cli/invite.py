"""``tirami invite`` and ``tirami join``: one node brings another to its network."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import InviteEntry, InviteRequest, InviteRevocation, JoinRequest
from tirami.cli.ids import whole
from tirami.cli.options import DataDir, Json, Offline, Token, Url
from tirami.cli.settings import ConfigFile, named_file, settings
from tirami.cli.start import Consume, MeshBind, ModelChoice, Network, NoModel, NoSell, Port, flags_of, foreground
from tirami.cli.target import connect, data_directory, names_a_node
from tirami.cli.terminal import Terminal, fields
from tirami.core.config import Config
from tirami.core.errors import InvalidField, InviteNotFound

SHORT = 20
"""Digits of an invitation's number that people are shown: 12 of the time it ends, and 8 by chance."""
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
JOIN_S = 60.0
"""Longer than the node itself waits for the other."""


commands = typer.Typer(
    invoke_without_command=True,
    help="Make an invitation for one newcomer. Send it privately: whoever has it first can use it, once.",
)


@commands.callback()
def invite(
    context: typer.Context,
    expires: Annotated[str, typer.Option("--expires", help="30m, 12h, 1d …; at most 30d.")] = "1d",
    label: Annotated[str, typer.Option("--label", help="A note for people, in the list.")] = "",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Make an invitation; nothing, where another command follows, whose options stand behind it."""
    if context.invoked_subcommand is not None:
        sources = (context.get_parameter_source(name) for name in context.params)
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise typer.BadParameter(f"options stand behind the command: tirami invite {context.invoked_subcommand} …")
        return
    with connect(url, token, data_dir, admin=True) as client:
        made = client.create_invite(InviteRequest(expires_secs=_seconds(expires), label=label))
    terminal = Terminal(json_output)
    terminal.show(made.model_dump(), lambda console: print(made.token))  # a token is one word, whatever the width
    if not json_output:
        where = ", ".join(made.addresses) or "nowhere it knows of"
        terminal.note(
            f"Good once, until {_time(made.expires_ms)} UTC, for network {made.network}; this node is at {where}."
            "\nOn the other machine, one of these:"
            "\n  tirami worker --join TOKEN   buys answers of this node; needs no model, sells nothing"
            "\n  tirami join TOKEN            sells answers of a model it downloads; buys nothing unless told to"
            f"\nTo take it back: tirami invite revoke {made.invite[:SHORT]}"
        )


@commands.command("list")
def list_invites(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Invitations that have not expired, and who came with one. Their tokens are shown once, when they are made."""
    with connect(url, token, data_dir, admin=True) as client:
        invites = client.invites().invites
    Terminal(json_output).show([i.model_dump() for i in invites], lambda console: _table(console, invites))


@commands.command()
def revoke(
    number: Annotated[str, typer.Argument(metavar="INVITE", help="Its number from `invite list`, or its start.")],
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Take back an invitation that nobody has used."""
    with connect(url, token, data_dir, admin=True) as client:
        full = whole(number, (entry.invite for entry in client.invites().invites), InviteNotFound)
        entry = client.revoke_invite(InviteRevocation(invite=full))
    Terminal(json_output).show(entry.model_dump(), lambda console: _table(console, [entry]))


def join(
    invitation: Annotated[str, typer.Argument(metavar="TOKEN", help="What `tirami invite` printed.")],
    model: ModelChoice = None,
    no_model: NoModel = False,
    port: Port = None,
    network: Network = None,
    offline: Offline = False,
    config_file: ConfigFile = None,
    p2p_bind: MeshBind = None,
    consume: Consume = None,
    no_sell: NoSell = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Join the network of the node that invited you. Where no node runs yet, one is started, in the foreground.

    A machine that has no book yet takes over the network's file, and stays on the mesh at later starts, with the same
    --consume and --no-sell; trusted is then the node that invited.
    """
    if not names_a_node(url, data_directory(data_dir)):
        flags = flags_of(**locals())
        before = settings(config_file, data_dir, {"network.file": flags["network.file"]})
        config = _arriving(invitation, before, before.with_flags(flags), named_file(config_file), Terminal(json_output))
        foreground(config, json_output)
        return
    with connect(url, token, data_dir, admin=True, timeout_s=JOIN_S) as client:
        joined = client.join(JoinRequest(token=invitation))
    shown = {"Joined": joined.network, "Invited by": joined.inviter, "At": ", ".join(joined.addresses)}
    Terminal(json_output).show(joined.model_dump(), lambda console: fields(console, "", shown))


def _arriving(invitation: str, before: Config, config: Config, named: Path | None, terminal: Terminal) -> Config:
    """``config`` of a node that comes by this invitation; noted for later starts, where there was no book ``before``.

    Args:
        named: the settings that later starts are told to read; those of the data directory otherwise.

    Raises ``InvalidField``, ``ConfigError``.
    """
    from tirami.cli.host import inviter, settle_in

    address, mesh = inviter(invitation), config.mesh
    chosen: dict[str, bool | str] = {"bootstrap": " ".join(dict.fromkeys([*mesh.bootstrap.split(), address]))}
    if not mesh.sell:
        chosen["sell"] = False
    if mesh.consume != "off":
        chosen["consume"] = mesh.consume
    if mesh.consume == "trusted":
        chosen["trusted"] = ",".join(filter(None, (mesh.trusted, address.partition("@")[0])))
    changed = settle_in(invitation, before, chosen, named)
    if changed is not None:
        terminal.note(f"Kept for later starts in {changed}, under [mesh].")
    return config.with_flags({"mesh.trusted": chosen.get("trusted")})


def _table(console: Console, invites: list[InviteEntry]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("invite", "until (UTC)", "state", "label"):
        table.add_column(title, no_wrap=title != "label", overflow="fold")
    for entry in invites:
        state = f"used by {(entry.used_by or '')[:16]}" if entry.state == "used" else entry.state
        number = entry.invite[:SHORT]
        table.add_row(number, _time(entry.expires_ms), state, escape(entry.label))
    console.print(table if invites else "No invitations.")
    if any(entry.state == "open" for entry in invites):
        console.print("To take one back: tirami invite revoke INVITE, as it stands here.")


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _seconds(text: str) -> int:
    """Raises ``InvalidField`` for what is no time."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    if match is None:
        raise InvalidField(f"{text!r} is no time: a number and s, m, h or d, as in 12h", param="expires")
    return int(match[1]) * UNITS[match[2]]
