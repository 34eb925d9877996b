"""A machine that comes by invitation and has no book yet: what the token says is written down for its later starts."""

import json
from collections.abc import Mapping
from pathlib import Path

from tirami.core.config import Config
from tirami.net.invites import Invitation
from tirami.node.home import NETWORK, journal_path

SETTINGS = "config.toml"


def settle_in(token: str, config: Config, chosen: Mapping[str, bool | str] | None = None) -> Path | None:
    """Keep the network's file and begin the settings of the data directory; nothing that is there is touched.

    Args:
        chosen: further settings of ``[mesh]`` to begin with: what this node sells, and of whom it buys.

    Returns the settings in which the mesh is still off, ``None`` for none. Raises ``InvalidField``.
    """
    invitation, home = Invitation.parse(token), config.data_dir
    if config.network.file or journal_path(config).exists():
        return None
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file, own = home / NETWORK, home / SETTINGS
    if not file.exists():
        file.write_bytes(invitation.network.to_bytes())
    if not own.exists():
        settings = {"enabled": True} | dict(chosen or {})
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())  # plain text is alike in TOML
        own.write_text("[mesh]\n" + "".join(lines))
        return None
    return None if config.mesh.enabled else own


def inviter(token: str) -> str:
    """Who made an invitation and where it is, ``KEY@WAYS``. Raises ``InvalidField``."""
    return str(Invitation.parse(token).address)
