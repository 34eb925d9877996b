"""``tirami key``: the end of this node's key, and who follows."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import KeyEndedReply, KeyQuery, KeyReply, KeyRevocationRequest, KeyRotationRequest
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.core.errors import InvalidField
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import parse_node_id
from tirami.proto import Successor

commands = typer.Typer(no_args_is_help=True, help="The end of this node's key, and who follows.")
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be undone.")]
STAYS = (
    "The old directory keeps the book, the hosted accounts and the tokens; its node sells and buys nothing on the"
    " network any more."
)


@commands.callback()
def key() -> None:
    """The end of this node's key, and who follows."""


@commands.command()
def show(
    node: Annotated[str | None, typer.Argument(metavar="KEY", help="Whose key.  [this node's]")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Whether a key has ended, and which acts for it now."""
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.key(KeyQuery(node=node))
    Terminal(json_output).show(reply.model_dump(), lambda console: _show(console, reply))


@commands.command()
def rotate(
    successor: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Data directory of the node that follows; made with a new key.")
    ],
    leave: Annotated[bool, typer.Option("--leave", help="Do not give the successor what this key owns.")] = False,
    yes: Yes = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """End this node's key for good, in favour of the one in DIRECTORY; both sign. What it signed before stays good."""
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        now = client.key()
        _sure(now, f"and the key in {successor} follows it", yes, terminal)
        directory = successor.expanduser()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new, _ = load_or_create_node_key(directory / "node.key")
        agreed = Successor.agreeing(now.network, parse_node_id(now.node_id), new)
        ended = client.rotate_key(
            KeyRotationRequest(
                node_id=now.node_id, successor=agreed.key.hex(), consent=agreed.consent.hex(), move=not leave
            )
        )
    shown = {"Ended": ended.node_id, "Follows": ended.successor, "Moved": f"{ended.moved_trm} TRM"} | _told(ended)
    terminal.show(ended.model_dump(), lambda console: fields(console, "", shown))
    terminal.note(
        f"The successor starts with an invitation of this node, or on a copy of its network file: tirami invite; then"
        f" tirami join TOKEN --data-dir {directory}\n{STAYS}"
    )


@commands.command()
def revoke(
    node: Annotated[str, typer.Argument(metavar="KEY", help="This node's whole key, so that no other's ends.")],
    yes: Yes = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """End this node's key for good, in favour of nobody: what it owns stays where nobody can spend it."""
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        now = client.key()
        if parse_node_id(node).hex() != now.node_id:
            raise InvalidField(f"this node's key is {now.node_id}", param="node_id")
        _sure(now, "nobody follows it, and what it owns is lost", yes, terminal)
        ended = client.revoke_key(KeyRevocationRequest(node_id=now.node_id))
    shown = {"Ended": ended.node_id, "Follows": "nobody"} | _told(ended)
    terminal.show(ended.model_dump(), lambda console: fields(console, "", shown))
    terminal.note(STAYS)


def _sure(now: KeyReply, what: str, yes: bool, terminal: Terminal) -> None:
    """Raises ``InvalidField`` where nobody can be asked."""
    if yes:
        return
    if not terminal.err.is_terminal:
        raise InvalidField("nobody is here to be asked, and it cannot be undone: add --yes", param="yes")
    roles = f" The network file names it as {' and '.join(now.roles)}: nobody takes that over." if now.roles else ""
    typer.confirm(f"The key {now.node_id} ends for good: {what}.{roles} Go on?", abort=True, err=True)


def _told(ended: KeyEndedReply) -> dict[str, object]:
    return {"Told": f"{ended.peers} peers, who tell the others"}


def _show(console: Console, reply: KeyReply) -> None:
    revoked = any(order.successor is None for order in reply.orders)
    facts: dict[str, object] = {"Key": reply.node_id, "Ended": "yes" if reply.ended else "no"}
    if reply.contested:
        facts["Follows"] = "nobody: two orders name different successors, so somebody else has this key"
    elif reply.ended:
        facts["Follows"] = "nobody: it was revoked" if revoked else reply.orders[0].successor
        facts["Acts for it now"] = reply.acts_now or "nobody"
    if reply.roles:
        facts["Named by the network"] = ", ".join(reply.roles)
    fields(console, "", facts)
