"""Secrets on disk: created 0600 in one step, refused when others may read them."""

import os
import secrets
import stat
from pathlib import Path

from tirami.core.errors import KeyFileError


def write_secret(path: Path, data: bytes) -> None:
    """Create ``path`` with mode 0600 and ``data``, durable, never overwriting.

    The file appears complete or not at all; raises ``FileExistsError`` when somebody was faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_secret(path: Path) -> bytes:
    """Read at most 64 KiB. Raises ``KeyFileError`` when unreadable or open to group or others."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyFileError(f"{path} is readable by others (mode {mode:04o}); make it 0600", path=str(path))
            return file.read(1 << 16)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
