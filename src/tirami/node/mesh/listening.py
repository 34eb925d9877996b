"""Where other nodes reach this one: at the port of the first start for as long as it is free.

Addresses that others keep, invitations among them, stay true over a restart that way.
"""

from pathlib import Path

import structlog

from tirami.core.config import MeshConfig
from tirami.core.errors import InvalidField, PortTaken
from tirami.core.keys import SigningKey
from tirami.net import HostPort
from tirami.net.iroh import IrohEndpoint

_log = structlog.get_logger()
FILE = "mesh.port"


async def listening(key: SigningKey, config: MeshConfig, home: Path) -> IrohEndpoint:
    """The endpoint of a node in the data directory ``home``. Raises ``PortTaken``, ``ConfigError``."""
    note = home / FILE
    if not config.bind.endswith(":0"):
        return await IrohEndpoint.bind(key, config.bind, config.relay)
    if port := _noted(note):
        try:
            return await IrohEndpoint.bind(key, f"{config.bind.removesuffix(':0')}:{port}", config.relay)
        except PortTaken:
            _log.warning("mesh_port_taken", port=port, hint="addresses and invitations given out do not lead here now")
    endpoint = await IrohEndpoint.bind(key, config.bind, config.relay)
    if not port:
        try:
            note.write_text(str(endpoint.port))
        except OSError as error:
            hint = "after the next start, addresses and invitations given out now may lead nowhere"
            _log.warning("mesh_port_not_noted", file=str(note), reason=error.strerror, hint=hint)
    return endpoint


def _noted(note: Path) -> int:
    """0 for none, and for what is no port."""
    try:
        return HostPort.parse(f"0.0.0.0:{note.read_text().strip()}").port
    except (OSError, InvalidField, UnicodeDecodeError):
        return 0
