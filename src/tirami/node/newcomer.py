"""A machine that comes by invitation and has no book yet: what the token says is written down for its later starts."""

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tirami.core.config import Config
from tirami.core.errors import ConfigError
from tirami.core.secretfile import replace_secret
from tirami.net.invites import Invitation
from tirami.node.home import NETWORK, journal_path

SETTINGS = "config.toml"
_TABLE: Final = re.compile(r"\s*\[\s*mesh\s*\]\s*(#.*)?")
_VALUE: Final = r"""("([^"\\]|\\.)*"|'[^']*'|[\w.+-]+)"""
"""Of one word or one text, without the line's comment."""

Chosen = Mapping[str, bool | str]


def settle_in(token: str, config: Config, chosen: Chosen | None = None, named: Path | None = None) -> Path | None:
    """Keep the network's file, and in the settings of the data directory that this node is on its mesh.

    Of settings that are there, only what was chosen changes; all else stays, comments too.

    Args:
        chosen: further settings of ``[mesh]``: what this node sells, and of whom it buys.
        named: the settings that count instead of those of the data directory.

    Returns settings that were there and have changed, ``None`` for none. Raises ``InvalidField`` for what is no token,
    ``ConfigError`` for settings that cannot be changed: it says what to write there, and then nothing is kept.
    """
    invitation, home = Invitation.parse(token), config.data_dir
    if config.network.file or journal_path(config).exists():
        return None
    file, own = home / NETWORK, named or home / SETTINGS
    there = own.exists()
    values = {"enabled": True} | dict(chosen or {})
    changed = _settled(own, values) if there else None
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = not file.exists() or not file.stat().st_size  # of no bytes: a join was killed while it wrote
    if made:  # before the settings: whoever starts with them alone begins a book of another network
        replace_secret(file, invitation.network.to_bytes())
    if not there:
        own.write_text("[mesh]\n" + "".join(_lines(values)))
    elif changed is not None:
        try:
            _replace(own, changed)
        except OSError as error:
            if made:
                file.unlink()
            raise _unchanged(own, values, error) from error
    return own if changed is not None else None


def inviter(token: str) -> str:
    """Who made an invitation and where it is, ``KEY@WAYS``. Raises ``InvalidField``."""
    return str(Invitation.parse(token).address)


def _settled(own: Path, chosen: Chosen) -> str | None:
    """The text that says what was chosen, ``None`` where the file does already. Raises ``ConfigError``."""
    try:
        text = own.read_bytes().decode()
        before = tomllib.loads(text)
        table = before.get("mesh", {})
        missing = {name: value for name, value in chosen.items() if table.get(name) != value}
        if not missing:
            return None
        changed = _changed(text, missing)
        if tomllib.loads(changed) != before | {"mesh": table | missing}:
            raise ValueError("its [mesh] is written in a way of its own")
    except (OSError, ValueError) as error:
        raise _unchanged(own, chosen, error) from error
    return changed


def _replace(own: Path, text: str) -> None:
    place = own.resolve()  # the link stays where there is one
    before = place.stat()
    if os.geteuid() not in (0, before.st_uid):
        raise PermissionError(errno.EPERM, "it belongs to another user")
    replace_secret(place, text.encode())  # a passphrase may stand in it: never open to others meanwhile
    with suppress(PermissionError):  # of a group this user is not in
        os.chown(place, before.st_uid, before.st_gid)
    place.chmod(stat.S_IMODE(before.st_mode))


def _unchanged(own: Path, chosen: Chosen, error: OSError | ValueError) -> ConfigError:
    lines = "".join(_lines(chosen)).strip()
    reason = error.strerror if isinstance(error, OSError) else str(error)
    message = f"{own} cannot be changed ({reason}); write under [mesh] there, then join again:\n{lines}"
    return ConfigError(message, param="mesh", path=str(own))


def _changed(text: str, values: Chosen) -> str:
    """``text`` with these under ``[mesh]``; whether they stand there only TOML's reader can say."""
    lines = text.splitlines(keepends=True)
    head = next((number for number, line in enumerate(lines) if _TABLE.fullmatch(line.rstrip())), None)
    if head is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        return text + gap + "[mesh]\n" + "".join(_lines(values))
    following = (number for number in range(head + 1, len(lines)) if lines[number].lstrip().startswith("["))
    end = next(following, len(lines))
    new = dict(values)
    for number in range(head + 1, end):
        for name, value in values.items():
            said = re.match(rf"(\s*{name}\s*=\s*){_VALUE}", lines[number])
            if said is not None:
                lines[number] = f"{said[1]}{json.dumps(value)}{lines[number][said.end() :]}"
                new.pop(name, None)
    lines[head] = lines[head].rstrip("\r\n") + "\n"
    lines[head + 1 : head + 1] = _lines(new)
    return "".join(lines)


def _lines(values: Chosen) -> list[str]:
    return [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]  # plain text is alike in TOML
