"""The node key on disk: 32 raw bytes, or 64 hexadecimal digits."""

import os
from pathlib import Path

from tirami.core.errors import KeyFileError
from tirami.core.keys import SigningKey
from tirami.core.secretfile import read_secret, write_secret


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
