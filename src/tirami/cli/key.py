"""``tirami key``: the end of this node's key, and who follows."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tirami.api.schemas import KeyEndedReply, KeyQuery, KeyReply, KeyRevocationRequest, KeyRotationRequest
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect, data_directory
from tirami.cli.terminal import Terminal, fields
from tirami.core.errors import InvalidField
from tirami.core.keyfile import NEXT_KEY, NODE_KEY, NodeKeys, load_or_create_node_key
from tirami.core.keys import parse_node_id
from tirami.proto import Successor

commands = typer.Typer(no_args_is_help=True, help="The end of this node's key, and who follows.")
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be undone.")]
STAYS = (
    "The old directory keeps the book, the hosted accounts and the tokens; its node sells and buys nothing on the"
    " network any more."
)
LOST = "its credit line, what it owes and what it is paid from now on stays with it, and nobody can spend that."
GOES_ON = (
    "Now stop this node and start it as before: it goes on under the new key, with its book, accounts, tokens and"
    " models. Peers that trust the old key follow; invite tokens and addresses that name it are to be given out anew."
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
        Path | None,
        typer.Argument(
            metavar="[DIRECTORY]",
            help="Data directory of another node that follows, made with a new key.  [this one, when started again]",
        ),
    ] = None,
    leave: Annotated[bool, typer.Option("--leave", help="Do not give the successor what this key owns.")] = False,
    yes: Yes = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """End this node's key for good, in favour of a new one; both sign. What it signed before stays good.

    What the key owns goes to the new one. Its credit line, its debts and what is paid to it later do not.
    """
    terminal = Terminal(json_output)
    with connect(url, token, data_dir, admin=True) as client:
        now = client.key()
        file = _own(data_directory(data_dir), now) if successor is None else successor.expanduser() / NODE_KEY
        owned = "stays with it" if leave else "goes to the new one"
        where = "the new key in" if successor is None else "the key in"
        _sure(now, f"{where} {file} follows it. What it owns {owned}; {LOST}", yes, terminal)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new, _ = load_or_create_node_key(file)
        agreed = Successor.agreeing(now.network, parse_node_id(now.node_id), new)
        ended = client.rotate_key(
            KeyRotationRequest(
                node_id=now.node_id, successor=agreed.key.hex(), consent=agreed.consent.hex(), move=not leave
            )
        )
    shown = {"Ended": ended.node_id, "Follows": ended.successor, "Moved": f"{ended.moved_trm} TRM"} | _told(ended)
    terminal.show(ended.model_dump(), lambda console: fields(console, "", shown))
    terminal.note(GOES_ON if successor is None else f"{_joins(file.parent)}\n{STAYS}")


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
        _sure(now, "nobody follows it, and what it owns is lost.", yes, terminal)
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
    typer.confirm(f"The key {now.node_id} ends for good: {what}{roles} Go on?", abort=True, err=True)


def _own(directory: Path, now: KeyReply) -> Path:
    """Where the new key waits for the next start.

    Raises ``InvalidField`` for the directory of another node, or of another user: its node must read what is written.
    """
    if not (directory / NODE_KEY).exists() or NodeKeys.of(directory).node.public_key.hex() != now.node_id:
        raise InvalidField(
            f"{directory} is not the data directory of node {now.node_id}: run this on its machine, with --data-dir",
            param="data_dir",
        )
    if (owner := (directory / NODE_KEY).stat().st_uid) != os.geteuid():
        raise InvalidField(
            f"{directory / NODE_KEY} is another user's, whose node could not read a key of yours: run this as that"
            f" user, sudo -u '#{owner}' tirami key rotate --data-dir {directory}",
            param="data_dir",
        )
    return directory / NEXT_KEY


def _joins(directory: Path) -> str:
    return (
        f"The successor starts with an invitation of this node, or on a copy of its network file: tirami invite; then"
        f" tirami join TOKEN --data-dir {directory}"
    )


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
