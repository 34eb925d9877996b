"""Ed25519 judged from outside (RFC 8032, Wycheproof) and by attacks that plain verification falls for."""

import base64
import hashlib
import json
import pickle
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tirami.core.errors import InvalidRequest
from tirami.core.keys import (
    REFUSED_POINTS,
    PublicKey,
    Signature,
    SigningKey,
    hkdf,
    is_acceptable_point,
    local_user_key,
    parse_node_id,
    sha256,
    verify,
)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
SIGN = 1 << 255
WYCHEPROOF = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof-ed25519.json"
RFC8032 = json.loads((Path(__file__).parent / "rfc8032.json").read_text())["cases"]

SMALL_ORDER = {
    "identity": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, negative": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, negative": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, other": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other, negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
TWINS = {
    "identity, x = -0": (1 | SIGN).to_bytes(32, "little").hex(),
    "identity as p + 1": (P + 1).to_bytes(32, "little").hex(),
    "identity as p + 1, x = -0": (P + 1 | SIGN).to_bytes(32, "little").hex(),
    "order 2, x = -0": (P - 1 | SIGN).to_bytes(32, "little").hex(),
    "order 4 as p": P.to_bytes(32, "little").hex(),
    "order 4 as p, negative": (P | SIGN).to_bytes(32, "little").hex(),
}


def plain_verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """What the library alone says."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def scalar(seed: bytes) -> int:
    """RFC 8032 §5.1.5: the secret scalar behind a seed."""
    half = bytearray(hashlib.sha512(seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    return int.from_bytes(half, "little")


@pytest.mark.parametrize("case", RFC8032, ids=lambda case: case["test"])
def test_rfc_8032(case: dict[str, str]) -> None:
    key = SigningKey.from_seed(bytes.fromhex(case["seed"]))
    message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
    assert key.public_key.hex() == case["public_key"]
    assert key.sign(message) == signature
    assert verify(key.public_key, Signature(signature), message)
    assert not verify(key.public_key, Signature(signature), message + b"\0")


@pytest.mark.skipif(not WYCHEPROOF.exists(), reason="the Wycheproof vectors are not beside this repository")
def test_wycheproof() -> None:
    vectors = json.loads(WYCHEPROOF.read_text())
    judged = 0
    for group in vectors["testGroups"]:
        key = PublicKey(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            signature, message = Signature(bytes.fromhex(case["sig"])), bytes.fromhex(case["msg"])
            assert verify(key, signature, message) is (case["result"] == "valid"), case["tcId"]
            judged += 1
    assert judged == vectors["numberOfTests"]


@pytest.mark.parametrize("encoding", (SMALL_ORDER | TWINS).values(), ids=(SMALL_ORDER | TWINS).keys())
def test_a_small_order_key_signs_nothing(encoding: str) -> None:
    """R = sB, S = s is a signature under a small-order A whenever the challenge is 0 modulo its order."""
    key, nonce = bytes.fromhex(encoding), SigningKey.from_seed(b"\x05" * 32)
    signature = nonce.public_key + (scalar(nonce.seed) % L).to_bytes(32, "little")
    messages = [bytes([number]) for number in range(256)]
    assert any(plain_verify(key, signature, message) for message in messages), "the attack would work"
    assert not any(verify(PublicKey(key), Signature(signature), message) for message in messages)


def test_a_small_order_commitment_is_refused() -> None:
    """R = identity, S = h·a: valid for plain verification, and different payers of it could not be told apart."""
    signer, message = SigningKey.from_seed(b"\x06" * 32), b"pay"
    commitment = bytes.fromhex(SMALL_ORDER["identity"])
    challenge = int.from_bytes(hashlib.sha512(commitment + signer.public_key + message).digest(), "little")
    signature = Signature(commitment + (challenge * scalar(signer.seed) % L).to_bytes(32, "little"))
    assert plain_verify(signer.public_key, signature, message), "the attack would work"
    assert not verify(signer.public_key, signature, message)


def test_the_set_of_refused_encodings_is_complete() -> None:
    every_y_from_p = {(y | sign).to_bytes(32, "little") for y in range(P, SIGN) for sign in (0, SIGN)}
    named = {bytes.fromhex(encoding) for encoding in (SMALL_ORDER | TWINS).values()}
    assert named | every_y_from_p == REFUSED_POINTS
    assert len(REFUSED_POINTS) == 48


@pytest.mark.parametrize("encoding", sorted(REFUSED_POINTS), ids=bytes.hex)
def test_no_refused_encoding_stands_for_a_or_r(encoding: bytes) -> None:
    signer = SigningKey.from_seed(b"\x07" * 32)
    signature = signer.sign(b"message")
    assert not is_acceptable_point(encoding)
    assert not verify(PublicKey(encoding), signature, b"message")
    assert not verify(signer.public_key, Signature(encoding + signature[32:]), b"message")


def test_s_has_one_spelling() -> None:
    signer = SigningKey.from_seed(b"\x08" * 32)
    signature = signer.sign(b"message")
    value = int.from_bytes(signature[32:], "little")
    for other in (value + L, value + 2 * L, L, 2**256 - 1):
        assert not verify(signer.public_key, Signature(signature[:32] + other.to_bytes(32, "little")), b"message")


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 64, 65, 1000])
def test_wrong_lengths_are_false_not_errors(length: int) -> None:
    signer = SigningKey.from_seed(b"\x09" * 32)
    assert not verify(PublicKey(bytes(length)), signer.sign(b""), b"")
    assert not verify(signer.public_key, Signature((signer.sign(b"") * 16)[: length if length != 64 else 63]), b"")


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=8))
def test_verify_never_raises(key: bytes, signature: bytes, message: bytes) -> None:
    assert verify(PublicKey(key), Signature(signature), message) is False


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.integers(0, 511))
def test_every_bit_of_a_signature_counts(seed: bytes, message: bytes, bit: int) -> None:
    signer = SigningKey.from_seed(seed)
    signature = signer.sign(message)
    assert verify(signer.public_key, signature, message)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    assert not verify(signer.public_key, Signature(bytes(changed)), message)


@pytest.mark.parametrize(
    ("seed", "public_key"),
    [
        (1, "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"),
        (2, "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"),
        (0x07, "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"),
        (0x2A, "197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61"),
        (0x42, "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"),
        (0xAB, "248acbdbaf9e050196de704bea2d68770e519150d103b587dae2d9cad53dd930"),
    ],
)
def test_seed_to_public_key(seed: int, public_key: str) -> None:
    assert SigningKey.from_seed(bytes([seed]) * 32).public_key.hex() == public_key


def test_the_seed_shows_nowhere() -> None:
    seed = bytes(range(32))
    key = SigningKey.from_seed(seed)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert seed.hex() not in shown
        assert repr(seed) not in shown
        assert base64.b64encode(seed).decode() not in shown
        assert key.public_key.hex() in shown
    assert not hasattr(key, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_keys_differ_and_seeds_have_32_bytes() -> None:
    assert SigningKey.generate().seed != SigningKey.generate().seed
    for length in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            SigningKey.from_seed(bytes(length))


def test_hkdf_is_rfc_5869() -> None:
    """By hand: extract with a zero salt, expand one block."""
    import hmac

    key = hmac.digest(bytes(32), b"secret", "sha256")
    assert hkdf(b"secret", b"info") == hmac.digest(key, b"info\x01", "sha256")


def test_the_local_user_has_a_key_of_its_own() -> None:
    node = SigningKey.from_seed(b"\x07" * 32)
    local = local_user_key(node)
    assert local.seed == hkdf(node.seed, b"tirami/local-user/1")
    assert local.public_key != node.public_key
    assert local_user_key(node).public_key == local.public_key


def test_sha256_concatenates() -> None:
    assert sha256(b"ab", b"c").hex() == hashlib.sha256(b"abc").hexdigest()
    assert sha256() == hashlib.sha256().digest()


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("tirami_" + "12" * 32, 0x12),
        ("forge_" + "34" * 32, 0x34),
        ("56" * 32, 0x56),
        ("aB" * 32, 0xAB),
    ],
)
def test_a_node_id_may_have_a_prefix_and_any_case(text: str, byte: int) -> None:
    assert parse_node_id(text) == bytes([byte]) * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab",
        "ab" * 31,
        "ab" * 33,
        "zz" * 32,
        "tirami_forge_" + "ab" * 32,
        "forge_tirami_" + "ab" * 32,
        "tirami_abababababababab",
        " " + "ab" * 32,
        "ab" * 31 + "a ",
        "ab " * 32,
        "٣" * 64,
    ],
)
def test_anything_else_is_no_node_id(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_node_id(text)
    assert caught.value.param == "node_id"
