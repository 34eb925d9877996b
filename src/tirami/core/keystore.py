"""Hosted account keys at rest: sealed to the node key and, when one is set, to a passphrase.

KEK = HKDF-SHA256(node seed, ``tirami/keystore/1``). With a passphrase, KEK = HKDF-SHA256(that ‖ Argon2id(passphrase,
salt), ``tirami/keystore/1/passphrase``), Argon2id with 64 MiB, 3 passes and 4 lanes (RFC 9106 §4, second choice).
Each account is sealed by AES-256-GCM under a fresh nonce with version, salt and the account's public key as
associated data, so that a blob opens for its own account only.
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tirami.core.errors import KeystoreError
from tirami.core.keys import PublicKey, SigningKey, hkdf

ARGON2_KIB = 64 * 1024
ARGON2_PASSES = 3
ARGON2_LANES = 4
MAX_SEALED = 256
_INFO = b"tirami/keystore/1"
_SALT_BYTES = 16
_NONCE_BYTES = 12


class _Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Literal[1]
    salt: Annotated[bytes, msgspec.Meta(max_length=_SALT_BYTES)]
    """Empty when the keystore has no passphrase."""
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
    ciphertext: Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
    """The 32-byte seed and the 16-byte tag."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a keystore can do with some sealed keys.

    Attributes:
        bare: how many are sealed under the node's key alone.
        sealed: how many are sealed under some passphrase.
        opened: how many of those open under the keystore's.
        locked: accounts whose key does not open, for whatever reason.
    """

    bare: int
    sealed: int
    opened: int
    locked: tuple[PublicKey, ...]


class Keystore:
    """Seals and opens the keys of accounts this node hosts. Not thread-safe.

    With a passphrase the first use of a salt costs one Argon2id (about a quarter of a second, 64 MiB); all blobs
    sealed in one process share a salt, the salts seen when opening are derived once each.
    """

    def __init__(self, node: SigningKey, passphrase: str | None = None) -> None:
        """``passphrase``: ``None`` or empty when there is none."""
        self._seed = node.seed
        self._passphrase = passphrase.encode() if passphrase else None
        self._salt: bytes | None = None if self._passphrase else b""
        self._ciphers: dict[bytes, AESGCM] = {}

    @property
    def has_passphrase(self) -> bool:
        return self._passphrase is not None

    def __repr__(self) -> str:
        return f"Keystore(passphrase={'set' if self._passphrase else 'none'})"

    def seal(self, account: SigningKey) -> bytes:
        """The secret of ``account``, readable by this keystore only."""
        if self._salt is None:
            self._salt = secrets.token_bytes(_SALT_BYTES)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = self._cipher(self._salt).encrypt(nonce, account.seed, _bound(self._salt, account.public_key))
        return msgspec.msgpack.encode(_Sealed(1, self._salt, nonce, ciphertext))

    def open(self, account: PublicKey, sealed: bytes) -> SigningKey:
        """The key of ``account``. Raises ``KeystoreError`` naming the account, never the reason's secret parts."""
        name, blob = account.hex(), _parsed(account, sealed)
        if blob.salt and self._passphrase is None:
            raise KeystoreError(f"the key of account {name} needs the keystore's passphrase", account=name)
        try:
            seed = self._cipher(blob.salt).decrypt(blob.nonce, blob.ciphertext, _bound(blob.salt, account))
        except InvalidTag as error:
            message = f"the key of account {name} does not open: wrong passphrase, other node key or damaged"
            raise KeystoreError(message, account=name) from error
        key = SigningKey.from_seed(seed)
        if key.public_key != account:
            raise KeystoreError(f"the sealed key is not the key of account {name}", account=name)
        if self._salt is None:
            self._salt = blob.salt or None
        return key

    def tried(self, keys: Mapping[PublicKey, bytes]) -> Tried:
        """Open one of ``keys`` of each salt: the rest of a salt opens as it does. Blocks as long as they derive."""
        by_salt: dict[bytes, list[PublicKey]] = {}
        locked: list[PublicKey] = []
        for account, sealed in keys.items():
            try:
                by_salt.setdefault(_parsed(account, sealed).salt, []).append(account)
            except KeystoreError:
                locked.append(account)
        bare = by_salt.pop(b"", [])
        opened = 0
        for accounts in (bare, *by_salt.values()):
            if accounts and not self._opens(accounts[0], keys[accounts[0]]):
                locked += accounts
            elif accounts is not bare:
                opened += len(accounts)
        return Tried(len(bare), sum(map(len, by_salt.values())), opened, tuple(locked))

    def united(self, keys: Mapping[PublicKey, bytes]) -> dict[PublicKey, bytes]:
        """Of ``keys`` those that open under the passphrase and another salt than the first one did, sealed under that.

        With all of them in the place of the former ones a later process derives once. Blocks as :meth:`tried`, after
        which nothing is left to derive.
        """
        anew: dict[PublicKey, bytes] = {}
        if not self._salt:
            return anew
        for account, sealed in keys.items():
            with suppress(KeystoreError):
                if _parsed(account, sealed).salt not in (b"", self._salt):
                    anew[account] = self.seal(self.open(account, sealed))
        return anew

    def _opens(self, account: PublicKey, sealed: bytes) -> bool:
        try:
            self.open(account, sealed)
        except KeystoreError:
            return False
        return True

    def _cipher(self, salt: bytes) -> AESGCM:
        cipher = self._ciphers.get(salt)
        if cipher is None:
            cipher = self._ciphers[salt] = AESGCM(self._derive(salt))
        return cipher

    def _derive(self, salt: bytes) -> bytes:
        kek = hkdf(self._seed, _INFO)
        if not salt:
            return kek
        assert self._passphrase is not None
        argon2 = Argon2id(salt=salt, length=32, iterations=ARGON2_PASSES, lanes=ARGON2_LANES, memory_cost=ARGON2_KIB)
        return hkdf(kek + argon2.derive(self._passphrase), _INFO + b"/passphrase")


def _parsed(account: PublicKey, sealed: bytes) -> _Sealed:
    """Raises ``KeystoreError``."""
    try:
        if len(sealed) > MAX_SEALED:
            raise ValueError
        blob = msgspec.msgpack.decode(sealed, type=_Sealed)
        if len(blob.salt) not in (0, _SALT_BYTES):
            raise ValueError
    except (msgspec.MsgspecError, ValueError) as error:
        name = account.hex()
        raise KeystoreError(f"the sealed key of account {name} is damaged", account=name) from error
    return blob


def _bound(salt: bytes, account: PublicKey) -> bytes:
    """Associated data: everything outside the ciphertext that must not be exchanged."""
    return b"\x01" + salt + account
