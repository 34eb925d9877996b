"""Which node a command talks to, and with what right.

The running node of a data directory announces itself in ``node.json``. Its administrator's token lies beside it and
is sent to that node only: a URL from elsewhere gets a token that was named, or none.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from tirami.core.errors import MissingToken, NoNode
from tirami.core.secretfile import read_secret
from tirami.sdk import Tirami


class Announcement(msgspec.Struct, frozen=True):
    """Contents of ``node.json``."""

    pid: int
    url: str


def data_directory(named: Path | None) -> Path:
    """The directory on the command line, else ``~/.tirami``."""
    return (named or Path.home() / ".tirami").expanduser()


def running_node(data_dir: Path) -> Announcement | None:
    """What the node of this directory announced, if its process lives."""
    try:
        announced = msgspec.json.decode((data_dir / "node.json").read_bytes(), type=Announcement)
        os.kill(announced.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return announced
