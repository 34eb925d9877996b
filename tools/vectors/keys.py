"""Vectors of TIP-02: keys and signatures."""

from functools import partial
from hashlib import sha512

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tests.proto import samples
from tests.proto.samples import AGENT, NODE, PAYER, QUOTE, TRADE

from tirami.core import keystore
from tirami.core.errors import TiramiError
from tirami.core.keys import (
    REFUSED_POINTS,
    PublicKey,
    Signature,
    SigningKey,
    hkdf,
    journal_key,
    local_user_key,
    parse_node_id,
    verify,
)
from tirami.proto import Trade, encode, sign
from tools.vectors.case import Case, case, code
from tools.vectors.tables import fenced

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
LOCAL_USER = local_user_key(NODE)


def secret_scalar(seed: bytes) -> int:
    """RFC 8032 §5.1.5: what is behind a seed."""
    half = bytearray(sha512(seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    return int.from_bytes(half, "little")


def forged(key: bytes) -> tuple[bytes, bytes]:
    """(signature, message): R = sB, S = s, valid for a part of all messages in plain verification if A is small."""
    point = SigningKey.from_seed(b"\x05" * 32)
    signature = point.public_key + (secret_scalar(point.seed) % GROUP_ORDER).to_bytes(32, "little")
    messages = [b"message %d" % number for number in range(64)]
    return signature, next((message for message in messages if plainly(key, signature, message)), messages[0])


def plainly(key: bytes, signature: bytes, message: bytes) -> bool:
    """What the library says without the refusals."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


MIXED = bytes.fromhex("fc409141c6cc9bb91f07fc184947c53a09b90b03cd0bee63bf639cb847f264a4")
"""The key of seed 06 plus a point of order 8: not refused, and where the two ways to verify disagree."""


def cofactored(message: bytes) -> bytes:
    """Valid under :data:`MIXED` when both sides are multiplied by 8; as it stands for one message in eight."""
    point = SigningKey.from_seed(b"\x05" * 32)
    challenge = int.from_bytes(sha512(point.public_key + MIXED + message).digest(), "little")
    value = (secret_scalar(point.seed) + challenge * secret_scalar(b"\x06" * 32)) % GROUP_ORDER
    return point.public_key + value.to_bytes(32, "little")


def _signatures() -> list[Case]:
    signer, message = SigningKey.from_seed(b"\x08" * 32), b"message"
    key, good = signer.public_key, signer.sign(message)
    r, s = good[:32], int.from_bytes(good[32:], "little")
    identity = (1).to_bytes(32, "little")
    challenge = int.from_bytes(sha512(identity + key + message).digest(), "little")
    lone = identity + (challenge * secret_scalar(signer.seed) % GROUP_ORDER).to_bytes(32, "little")
    body = encode(TRADE)
    rows: list[tuple[str, bytes, bytes, bytes]] = [
        ("good", key, good, message),
        ("good, of nothing", key, signer.sign(b""), b""),
        ("a trade's, over tag and body", PAYER.public_key, sign(TRADE, PAYER), Trade.TAG + body),
        ("another message", key, good, b"massage"),
        ("another key", NODE.public_key, good, message),
        ("a trade's, made without the tag", PAYER.public_key, PAYER.sign(body), Trade.TAG + body),
        ("a trade's, made under a quote's tag", PAYER.public_key, PAYER.sign(QUOTE.TAG + body), Trade.TAG + body),
        *((f"S + {times} L", key, r + (s + times * GROUP_ORDER).to_bytes(32, "little"), message) for times in (1, 2)),
        ("S = L", key, r + GROUP_ORDER.to_bytes(32, "little"), message),
        ("S = 2^256 - 1", key, r + b"\xff" * 32, message),
        ("63 bytes", key, good[:-1], message),
        ("65 bytes", key, good + b"\x00", message),
        ("empty", key, b"", message),
        ("a key of 31 bytes", key[:-1], good, message),
        ("a key of 33 bytes", key + b"\x00", good, message),
        ("R is the identity, S fits", key, lone, message),
        ("valid only with the cofactor", MIXED, cofactored(b"message 0"), b"message 0"),
        ("valid with and without the cofactor", MIXED, cofactored(b"message 1"), b"message 1"),
    ]
    for encoding in sorted(REFUSED_POINTS):
        rows.append((f"A = {encoding.hex()}", encoding, *forged(encoding)))
        rows.append((f"R = {encoding.hex()}", key, encoding + good[32:], message))
    return [
        case(name, public_key=k, message=m, signature=g, valid=verify(PublicKey(k), Signature(g), m))
        for name, k, g, m in rows
    ]


def _sealed(node: SigningKey, account: SigningKey, passphrase: str) -> bytes:
    """A keystore blob with a fixed nonce; step by step as the document has it."""
    salt, nonce = b"\x11" * 16 if passphrase else b"", b"\x22" * 12
    kek = hkdf(node.seed, b"tirami/keystore/1")
    if passphrase:
        stretched = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536)
        kek = hkdf(kek + stretched.derive(passphrase.encode()), b"tirami/keystore/1/passphrase")
    ciphertext = AESGCM(kek).encrypt(nonce, account.seed, b"\x01" + salt + account.public_key)
    return msgspec.msgpack.encode([1, salt, nonce, ciphertext])


def _keystore() -> list[Case]:
    word = "correct horse"
    bare, locked = _sealed(NODE, AGENT, ""), _sealed(NODE, AGENT, word)
    rows: list[tuple[str, SigningKey, str, PublicKey, bytes]] = [
        ("no passphrase", NODE, "", AGENT.public_key, bare),
        ("a passphrase", NODE, word, AGENT.public_key, locked),
        ("a passphrase set later", NODE, "later", AGENT.public_key, bare),
        ("passphrase missing", NODE, "", AGENT.public_key, locked),
        ("passphrase wrong", NODE, "correct horse ", AGENT.public_key, locked),
        ("another node", PAYER, "", AGENT.public_key, bare),
        ("another account", NODE, "", PAYER.public_key, bare),
        ("a flipped bit", NODE, "", AGENT.public_key, bare[:-1] + bytes([bare[-1] ^ 1])),
        ("version 2", NODE, "", AGENT.public_key, bare.replace(b"\x94\x01", b"\x94\x02")),
        ("cut", NODE, "", AGENT.public_key, bare[:-1]),
    ]
    result = []
    for name, node, passphrase, account, blob in rows:
        parts: Case = {"node_seed": node.seed, "passphrase": passphrase, "account": account, "sealed": blob}
        try:
            found = keystore.Keystore(node, passphrase).open(account, blob)
        except TiramiError as error:
            result.append(case(name, **parts, error=error.code))
        else:
            result.append(case(name, **parts, account_seed=found.seed))
    return result


def vectors() -> Case:
    text = NODE.public_key.hex()
    names = [text, text.upper(), "tirami_" + text, "forge_" + text]
    bad = ["", text[:-1], text + "0", "zz" * 32, "tirami_forge_" + text, "TIRAMI_" + text, " " + text, "٣" * 64]
    files = [
        ("raw", NODE.seed, 0o600, NODE),
        ("hexadecimal", NODE.seed.hex().encode(), 0o600, NODE),
        ("hexadecimal, a newline after it", NODE.seed.hex().encode() + b"\n", 0o400, NODE),
        ("open to the group", NODE.seed, 0o640, None),
        ("open to others", NODE.seed, 0o604, None),
        ("33 bytes", NODE.seed + b"\x01", 0o600, None),
        ("empty", b"", 0o600, None),
        ("62 digits", NODE.seed.hex()[2:].encode(), 0o600, None),
        ("no digits", b"zz" * 32, 0o600, None),
    ]
    return {
        "keys": [
            case(
                f"seed of {byte:02x}",
                seed=signer.seed,
                public_key=signer.public_key,
                local_user_seed=local_user_key(signer).seed,
                local_user_public_key=local_user_key(signer).public_key,
                journal_key=journal_key(signer),
            )
            for byte in (1, 2, 7)
            for signer in [SigningKey.from_seed(bytes([byte]) * 32)]
        ],
        "refused_points": sorted(encoding.hex() for encoding in REFUSED_POINTS),
        "signatures": _signatures(),
        "key_files": [
            case(name, content=content, mode=f"{mode:04o}", **({"seed": key.seed} if key else {"error": "key_file"}))
            for name, content, mode, key in files
        ],
        "node_ids": [
            *(case(f"good {i}", text=name, public_key=parse_node_id(name)) for i, name in enumerate(names)),
            *(case(f"bad {i}", text=t, error=code(partial(parse_node_id, t))) for i, t in enumerate(bad)),
        ],
        "keystore": _keystore(),
    }


def example() -> list[str]:
    return fenced(
        f"node seed        {NODE.seed.hex()}",
        f"node key         {NODE.public_key.hex()}",
        f"local-user seed  {LOCAL_USER.seed.hex()}",
        f"local-user key   {LOCAL_USER.public_key.hex()}",
        f"message          {samples.HEAD.TAG.hex()} ‖ the {len(encode(samples.HEAD))} bytes of the example in TIP-01",
        f"signature        {sign(samples.HEAD, NODE)[:32].hex()}",
        f"                 {sign(samples.HEAD, NODE)[32:].hex()}",
    )
