"""Secrets on disk: created 0600 in one step, refused when others may read them."""

import os
import secrets
import stat
from pathlib import Path

from tirami.core.errors import KeyFileError

MAX_SECRET = 1 << 16


def write_secret(path: Path, data: bytes) -> None:
    """Create ``path`` with mode 0600 and ``data``, durable, never overwriting; missing parents become 0700.

    The file appears complete or not at all. Raises ``FileExistsError`` when somebody was faster, else ``OSError``.
    """
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
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


def replace_secret(path: Path, data: bytes) -> None:
    """As :func:`write_secret`, over what was there: always the old content or the new. Raises ``OSError``."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    write_secret(temporary, data)
    temporary.replace(path)


def read_secret(path: Path, most: int = MAX_SECRET) -> bytes:
    """The content of a secret, at most 64 KiB or as many bytes as are named.

    Raises ``KeyFileError`` naming the file when it is unreadable, no plain file, too large, or open to group or others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", closefd=True) as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFileError(f"{path} is no plain file", path=str(path))
            if mode & 0o077:
                shown = f"{stat.S_IMODE(mode):04o}"
                raise KeyFileError(f"{path} is open to others (mode {shown}); make it 0600", path=str(path))
            data = file.read(most + 1)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    if len(data) > most:
        raise KeyFileError(f"{path} is larger than {most} bytes", path=str(path))
    return data
