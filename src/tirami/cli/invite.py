"""``tirami invite`` and ``tirami join``: one node brings another to its network."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from tirami.api.schemas import InviteRequest, JoinRequest
from tirami.cli.options import DataDir, Json, Offline, Token, Url
from tirami.cli.settings import ConfigFile, settings
from tirami.cli.start import ModelChoice, Network, NoModel, Port, start
from tirami.cli.target import connect, data_directory, running_node
from tirami.cli.terminal import Terminal, fields
from tirami.core.errors import InvalidField

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
JOIN_S = 60.0
"""Longer than the node itself waits for the other."""


def invite(
    expires: Annotated[str, typer.Option("--expires", help="30m, 12h, 1d …; at most 30d.")] = "1d",
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Make an invitation for one newcomer. Send it privately: whoever has it first can use it, once."""
    with connect(url, token, data_dir, admin=True) as client:
        made = client.create_invite(InviteRequest(expires_secs=_seconds(expires)))
    terminal = Terminal(json_output)
    terminal.show(made.model_dump(), lambda console: print(made.token))  # a token is one word, whatever the width
    if not json_output:
        until = datetime.fromtimestamp(made.expires_ms / 1000, UTC)
        where = ", ".join(made.addresses) or "nowhere it knows of"
        terminal.note(
            f"Good once, until {until:%Y-%m-%d %H:%M} UTC, for network {made.network}; this node is at {where}."
            "\nOn the other machine: tirami join TOKEN"
        )


def join(
    invitation: Annotated[str, typer.Argument(metavar="TOKEN", help="What `tirami invite` printed.")],
    model: ModelChoice = None,
    no_model: NoModel = False,
    port: Port = None,
    network: Network = None,
    offline: Offline = False,
    config_file: ConfigFile = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Come to the network of who invited. Where no node runs yet, one is started, on the mesh, in the foreground.

    A machine that has no book yet takes over the network's file, and stays on the mesh at later starts.
    """
    if url is None and running_node(data_directory(data_dir)) is None:
        from tirami.cli.host import settle_in

        off = settle_in(invitation, settings(config_file, data_dir, {"network.file": network and str(network)}))
        if off is not None:
            Terminal(json_output).note(f"To stay on the mesh at later starts, set mesh.enabled = true in {off}.")
        start(
            model=model,
            no_model=no_model,
            port=port,
            network=network,
            offline=offline,
            config_file=config_file,
            data_dir=data_dir,
            json_output=json_output,
            invitation=invitation,
        )
        return
    with connect(url, token, data_dir, admin=True, timeout_s=JOIN_S) as client:
        joined = client.join(JoinRequest(token=invitation))
    shown = {"Joined": joined.network, "Invited by": joined.inviter, "At": ", ".join(joined.addresses)}
    Terminal(json_output).show(joined.model_dump(), lambda console: fields(console, "", shown))


def _seconds(text: str) -> int:
    """Raises ``InvalidField`` for what is no time."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    if match is None:
        raise InvalidField(f"{text!r} is no time: a number and s, m, h or d, as in 12h", param="expires")
    return int(match[1]) * UNITS[match[2]]
