"""Ed25519 keys, strict signatures, hashes (RFC 8032, FIPS 180-4, RFC 5869).

Plain verification, as libraries do it, accepts small-order keys: one signature that is valid for every message.
So verification here refuses, before the library is asked, the eight small-order points and their non-canonical
twins as A or R, every other encoding of a coordinate ≥ p, and any S ≥ L. All the refused encodings are one set.
"""

from functools import lru_cache
from hashlib import sha256 as _sha256
from typing import NewType, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tirami.core.errors import InvalidRequest

PublicKey = NewType("PublicKey", bytes)
"""32 bytes; a node's or an account's name is its key."""
NodeId = PublicKey
Signature = NewType("Signature", bytes)
Digest = NewType("Digest", bytes)

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT = 1 << 255
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""y of the points of order 8; the other half of them has −y."""


def _refused_encodings() -> frozenset[bytes]:
    """Small order (y ∈ {0, ±1, ± that of order 8}, either sign bit) and y ≥ p (19 values, either sign bit)."""
    values = {0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y, *range(_P, _SIGN_BIT)}
    return frozenset((y | sign).to_bytes(32, "little") for y in values for sign in (0, _SIGN_BIT))


REFUSED_POINTS = _refused_encodings()
"""48 encodings that never stand for A or R."""


class Signer(Protocol):
    """Whoever can sign for a key."""

    @property
    def public_key(self) -> PublicKey: ...

    def sign(self, message: bytes) -> Signature: ...


class SigningKey:
    """An Ed25519 secret key in memory; shows only its public half."""

    __slots__ = ("_key", "_public_key", "_seed")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self._public_key = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """From the 32-byte secret seed; raises ``ValueError`` for another length."""
        if len(seed) != 32:
            raise ValueError("an Ed25519 seed has 32 bytes")
        return cls(seed)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def seed(self) -> bytes:
        """The secret itself, for the key file and key derivation only."""
        return self._seed

    def sign(self, message: bytes) -> Signature:
        return Signature(self._key.sign(message))

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self._public_key.hex()})"


def is_acceptable_point(encoded: bytes) -> bool:
    """Whether 32 bytes may stand for A or R: canonical and not of small order."""
    return len(encoded) == 32 and encoded not in REFUSED_POINTS


@lru_cache(maxsize=4096)
def _acceptable_key(public_key: bytes) -> Ed25519PublicKey | None:
    """``None`` for keys that may not sign; asked of the library once a key, not once a signature."""
    if not is_acceptable_point(public_key):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        return None


def verify(public_key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Strict Ed25519 verification; ``False`` for anything malformed, never an exception."""
    if len(signature) != 64 or signature[:32] in REFUSED_POINTS:
        return False
    if int.from_bytes(signature[32:], "little") >= _L:
        return False
    key = _acceptable_key(bytes(public_key))
    if key is None:
        return False
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def sha256(*parts: bytes) -> Digest:
    """SHA-256 of the concatenation."""
    return Digest(_sha256(b"".join(parts)).digest())


def hkdf(secret: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 without salt."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def local_user_key(node: SigningKey) -> SigningKey:
    """The key of the person at this machine, derived from the node's (R-07)."""
    return SigningKey.from_seed(hkdf(node.seed, b"tirami/local-user/1"))


def journal_key(node: SigningKey) -> bytes:
    """What this node's journal is chained under: whoever can write the file cannot re-chain it (RFC 2104)."""
    return hkdf(node.seed, b"tirami/journal/1")


def parse_node_id(text: str) -> PublicKey:
    """64 hex digits of any case, optionally behind ``tirami_`` or ``forge_``. Raises ``InvalidRequest``."""
    prefix = next((prefix for prefix in ("tirami_", "forge_") if text.startswith(prefix)), "")
    digits = text.removeprefix(prefix)
    if len(digits) != 64 or not digits.isascii() or not digits.isalnum():
        raise InvalidRequest("a node id is 64 hexadecimal digits", param="node_id")
    try:
        return PublicKey(bytes.fromhex(digits))
    except ValueError as error:
        raise InvalidRequest("a node id is 64 hexadecimal digits", param="node_id") from error
