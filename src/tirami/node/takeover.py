"""A rotated node goes on in its own directory (A-31): at its next start the key that waits takes the old one's place.

What the old key left open is settled under it first. Everything that lies in the directory stays sealed under the key
of the first start; the network stays the one it was, also where that was named after the old key.
"""

import asyncio
import os
from pathlib import Path

import structlog

from tirami.core.clock import Clock
from tirami.core.config import Config
from tirami.core.errors import KeyFileError
from tirami.core.keyfile import NodeKeys, next_key
from tirami.core.keys import journal_key, local_user_key
from tirami.core.secretfile import replace_secret
from tirami.ledger import Ledger
from tirami.node.home import NETWORK, journal_path
from tirami.proto import NetworkFile

_log = structlog.get_logger()


async def opened_ledger(config: Config, keys: NodeKeys, network: NetworkFile, clock: Clock) -> tuple[NodeKeys, Ledger]:
    """The ledger of the data directory and the keys it is opened under: those given, or those that follow them.

    The ledger is not started. Raises ``StartError``.
    """
    directory = config.data_dir
    follows = next_key(directory)
    path, accept = journal_path(config), config.journal.accept_rollback
    ledger = await asyncio.to_thread(open_ledger, path, keys, network, clock, accept_rollback=accept)
    if follows is None or not ledger.state.succession.names(keys.node.public_key, follows.public_key):
        return keys, ledger
    try:
        await ledger.start(os.urandom)
    finally:
        await ledger.close()
    try:
        if not config.network.file and not (directory / NETWORK).exists():
            replace_secret(directory / NETWORK, network.to_bytes())
        former, keys = keys, keys.replaced(directory)
    except OSError as error:
        message = f"the new key cannot take its place in {directory}: {error.strerror}"
        raise KeyFileError(message, path=str(directory)) from error
    _log.warning("key_succeeded", former=former.node.public_key.hex(), node=keys.node.public_key.hex())
    return keys, await asyncio.to_thread(open_ledger, path, keys, network, clock)


def open_ledger(
    path: Path, keys: NodeKeys, network: NetworkFile, clock: Clock, *, accept_rollback: bool = False
) -> Ledger:
    """For a thread of its own: re-hashing a large journal takes seconds. Raises ``StartError``."""
    return Ledger.open(
        path,
        network=network,
        node=keys.node,
        local_user=local_user_key(keys.seal).public_key,
        clock=clock,
        journal_key=journal_key(keys.seal),
        accept_rollback=accept_rollback,
    )
