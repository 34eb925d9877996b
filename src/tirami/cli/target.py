"""Which node a command talks to, and with what right.

The running node of a data directory announces itself in ``node.json``. The administrator's token lies beside it and is
sent to that very node only: any other URL gets the token that was named, or none.
"""

import fcntl
import os
from pathlib import Path
from typing import Annotated

import httpx2
import msgspec

from tirami.core.errors import ConfigError, StartError
from tirami.core.secretfile import read_secret
from tirami.sdk import TIMEOUT_S, Tirami


class NoNode(StartError):
    """No node runs where one was looked for."""

    code = "no_node"


class Announcement(msgspec.Struct, frozen=True):
    """Contents of ``node.json``."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    url: str
    ca: str | None = None
    """PEM file of its certificate, when it speaks HTTPS."""
    server_name: str | None = None
    """What that certificate is for; the URL names an address of this machine."""


def data_directory(named: Path | None) -> Path:
    """The directory on the command line, else ``~/.tirami``."""
    return (named or Path.home() / ".tirami").expanduser()


def running_node(data_dir: Path) -> Announcement | None:
    """What the node of this directory announced, if it still holds the directory's lock.

    A process number alone would not do: after a crash somebody else may have it, and the port.
    """
    try:
        announced = msgspec.json.decode((data_dir / "node.json").read_bytes(), type=Announcement)
        with (data_dir / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return announced
    except (OSError, msgspec.MsgspecError):
        return None
    return None


def names_a_node(url: str | None, directory: Path) -> bool:
    """Whether a command has a node to talk to: one that is named, or one that runs in ``directory``."""
    return _given(url, "TIRAMI_URL", "FORGE_URL") is not None or running_node(directory) is not None


def connect(
    url: str | None, token: str | None, data_dir: Path | None, *, admin: bool = False, timeout_s: float = TIMEOUT_S
) -> Tirami:
    """A client of the chosen node.

    Args:
        url: named on the command line; else ``TIRAMI_URL`` (``FORGE_URL``, as the original had it), else the running
            node of the data directory.
        token: named on the command line; else ``TIRAMI_API_TOKEN`` (``FORGE_API_TOKEN``). Empty counts as absent.
        data_dir: where to look for a running node.
        admin: whether the administrator's token may be read from the data directory when no other was named.
        timeout_s: longest silence of the node.

    Raises:
        NoNode: nothing runs there.
        ConfigError: the URL or the token cannot be one.
        KeyFileError: the administrator's token cannot be read.
    """
    directory = data_directory(data_dir)
    announced = running_node(directory)
    chosen = _given(url, "TIRAMI_URL", "FORGE_URL") or (announced and announced.url)
    if not chosen:
        raise NoNode(f"no node is running in {directory}: start one with `tirami start`, or name one with --url")
    right = _given(token, "TIRAMI_API_TOKEN", "FORGE_API_TOKEN")
    own = announced if announced is not None and announced.url == chosen.rstrip("/") else None
    if right is None and admin and own is not None:
        right = read_secret(directory / "admin.token").decode().strip()
    if right is not None and not (right.isascii() and right.isprintable()):
        raise ConfigError("the token holds characters that no token has", param="token")
    if not chosen.startswith(("http://", "https://")):
        raise ConfigError(f"{chosen} is no URL of a node: it begins with http:// or https://", param="url")
    try:
        trust = {} if own is None else {"ca": own.ca, "server_name": own.server_name}
        return Tirami(chosen, token=right, timeout_s=timeout_s, **trust)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"{chosen} is no URL of a node: {error}", param="url") from error


def _given(value: str | None, *variables: str) -> str | None:
    """The option, else the first variable that is set; blank counts as absent."""
    for text in (value, *map(os.environ.get, variables)):
        if text and text.strip():
            return text.strip()
    return None
