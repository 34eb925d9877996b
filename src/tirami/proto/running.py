"""Hashes that gossip may carry without revealing a word (PROTOCOL B12): all start from a 32-byte secret."""

from collections.abc import Sequence

import msgspec

from tirami.core.keys import Digest, hkdf, sha256

_encoder = msgspec.msgpack.Encoder()


def session_secret(payer_nonce: bytes, provider_nonce: bytes) -> bytes:
    """The secret both sides derive from fresh 32-byte nonces exchanged inside the session."""
    if len(payer_nonce) != 32 or len(provider_nonce) != 32:
        raise ValueError("a session nonce has 32 bytes")
    return hkdf(payer_nonce + provider_nonce, b"tirami/1/session")


def prompt_hash(secret: bytes, tokens: Sequence[int], text: str, shaping: bytes = b"") -> Digest:
    """SHA-256(``tirami/1/prompt`` ‖ secret ‖ MessagePack [ids, text]); the text counts only where ids are unknown.

    ``shaping`` is the canonical JSON of what shapes the answer and has no field in the quote (stop texts, penalties,
    a schema); where there is any, the array is [ids, text, shaping].
    """
    hashed = [list(tokens), b"" if tokens else text.encode(), *([shaping] if shaping else [])]
    return sha256(b"tirami/1/prompt", secret, _encoder.encode(hashed))


class RunningHash:
    """Hash over everything delivered so far: h₀ from the secret, hᵢ = SHA-256(hᵢ₋₁ ‖ MessagePack [ids, text])."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError("a session secret has 32 bytes")
        self._value = sha256(b"tirami/1/running", secret)

    def update(self, ids: Sequence[int], text: bytes) -> None:
        self._value = sha256(self._value, _encoder.encode([list(ids), text]))

    def digest(self) -> Digest:
        return self._value
