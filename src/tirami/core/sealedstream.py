"""A stream sealed under a passphrase: Argon2id for the key, AES-256-GCM in chunks, so that size costs no memory.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce of a chunk is prefix ‖ counter ‖ whether
it is the last, so that chunks cannot be cut off, exchanged or repeated; the header is associated data of each.
"""

import secrets
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tirami.core.errors import BackupError
from tirami.core.keystore import ARGON2_KIB, ARGON2_LANES, ARGON2_PASSES

MAGIC = b"TIRAMIB1"
CHUNK = 1 << 16
"""Plain bytes of every chunk but the last."""
MIN_PASSPHRASE = 8
_SALT, _PREFIX, _TAG = 16, 7, 16
_HEADER = len(MAGIC) + _SALT + _PREFIX


class SealingWriter:
    """Seals what is written to it; :meth:`close` writes the last chunk and does not close ``file``."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        """Raises ``BackupError`` for a passphrase under 8 characters."""
        if len(passphrase) < MIN_PASSPHRASE:
            raise BackupError(f"a passphrase has at least {MIN_PASSPHRASE} characters", param="passphrase")
        self._file = file
        self._header = MAGIC + secrets.token_bytes(_SALT + _PREFIX)
        self._cipher = _cipher(self._header, passphrase)
        self._buffer = bytearray()
        self._counter = 0
        file.write(self._header)

    def write(self, data: bytes) -> int:
        self._buffer += data
        while len(self._buffer) > CHUNK:  # the last chunk is never written here: it may still become another one
            self._seal(bytes(self._buffer[:CHUNK]), last=False)
            del self._buffer[:CHUNK]
        return len(data)

    def close(self) -> None:
        self._seal(bytes(self._buffer), last=True)
        self._buffer.clear()

    def _seal(self, plain: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._header, self._counter, last), plain, self._header))
        self._counter += 1


class OpeningReader:
    """Reads what :class:`SealingWriter` wrote; every byte returned is authentic, and the end is the true end."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        """``file`` stands at the header."""
        self._file = file
        self._header = file.read(_HEADER)
        if len(self._header) != _HEADER or not self._header.startswith(MAGIC):
            raise BackupError("this is no sealed archive")
        self._cipher = _cipher(self._header, passphrase)
        self._ahead = file.read(CHUNK + _TAG)
        self._buffer = b""
        self._counter = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end. Raises ``BackupError`` for anything that was altered."""
        parts, missing = [], size
        while missing:
            if not self._buffer:
                if self._ended:
                    break
                self._buffer = self._open()
                continue
            part, self._buffer = self._buffer[:missing], self._buffer[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _open(self) -> bytes:
        sealed, self._ahead = self._ahead, self._file.read(CHUNK + _TAG)
        self._ended = not self._ahead
        try:
            plain = self._cipher.decrypt(_nonce(self._header, self._counter, self._ended), sealed, self._header)
        except InvalidTag as error:
            reason = "wrong passphrase, or damaged" if self._counter == 0 else "damaged or cut off"
            raise BackupError(f"the archive does not open: {reason}") from error
        self._counter += 1
        return plain


def _cipher(header: bytes, passphrase: str) -> AESGCM:
    salt = header[len(MAGIC) : len(MAGIC) + _SALT]
    argon2 = Argon2id(salt=salt, length=32, iterations=ARGON2_PASSES, lanes=ARGON2_LANES, memory_cost=ARGON2_KIB)
    return AESGCM(argon2.derive(passphrase.encode()))


def _nonce(header: bytes, counter: int, last: bool) -> bytes:
    return header[-_PREFIX:] + struct.pack(">IB", counter, last)
