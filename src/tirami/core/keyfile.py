"""The keys in a data directory: 32 raw bytes each, or 64 hexadecimal digits.

``node.key`` is the node's own. ``next.key`` waits to follow it after a rotation. ``seal.key`` is there once one has:
the key of the first start, under which all that lies in the directory stays sealed: a rotation writes nothing anew.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tirami.core.errors import KeyFileError
from tirami.core.keys import SigningKey
from tirami.core.secretfile import read_secret, write_secret

NODE_KEY: Final = "node.key"
NEXT_KEY: Final = "next.key"
SEAL_KEY: Final = "seal.key"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys of one data directory.

    Attributes:
        node: signs for this node.
        seal: what the journal is chained, hosted keys are sealed and the owner's key is derived under; ``node`` until
            the first rotation.
        created: whether ``node`` was made now.
    """

    node: SigningKey
    seal: SigningKey
    created: bool

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Those of ``directory``; the node's is made when there is none. Raises ``KeyFileError``."""
        node, created = load_or_create_node_key(directory / NODE_KEY)
        return cls(node, _there(directory / SEAL_KEY) or node, created)

    def replaced(self, directory: Path) -> Self:
        """Let the key that waits take the place of the node's, durable. Broken off anywhere it can be begun again.

        Raises ``OSError``, ``KeyFileError``.
        """
        if not os.path.lexists(directory / SEAL_KEY):
            write_secret(directory / SEAL_KEY, self.node.seed)
        (directory / NEXT_KEY).replace(directory / NODE_KEY)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return self.of(directory)


def next_key(directory: Path) -> SigningKey | None:
    """The key that waits to follow the node's, if one was made. Raises ``KeyFileError``."""
    return _there(directory / NEXT_KEY)


def load_or_create_node_key(path: Path) -> tuple[SigningKey, bool]:
    """The key in ``path``, made and stored when there is none; and whether it was made now.

    Raises ``KeyFileError`` naming the file when it is unreadable, open to others or not a key.
    """
    try:
        if not os.path.lexists(path):
            key = SigningKey.generate()
            write_secret(path, key.seed)
            return key, True
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
    return _parse(path, read_secret(path)), False


def _there(path: Path) -> SigningKey | None:
    return _parse(path, read_secret(path)) if os.path.lexists(path) else None


def _parse(path: Path, data: bytes) -> SigningKey:
    if len(data) == 32:
        return SigningKey.from_seed(data)
    text = data.decode("ascii", errors="replace").strip()
    if len(text) == 64 and text.isalnum():
        try:
            return SigningKey.from_seed(bytes.fromhex(text))
        except ValueError:
            pass
    raise KeyFileError(f"{path} holds no key: 32 raw bytes or 64 hexadecimal digits are expected", path=str(path))
