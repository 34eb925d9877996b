"""Hashes that gossip may carry: functions of a secret nobody outside the session has."""

import hashlib

import msgspec
import pytest

from tirami.core.keys import hkdf
from tirami.proto import RunningHash, prompt_hash, session_secret

SECRET = session_secret(b"\x01" * 32, b"\x02" * 32)


def test_the_secret_needs_both_nonces_in_order() -> None:
    assert hkdf(b"\x01" * 32 + b"\x02" * 32, b"tirami/1/session") == SECRET
    assert session_secret(b"\x02" * 32, b"\x01" * 32) != SECRET
    for one, other in ((b"", bytes(64)), (bytes(31), bytes(33)), (bytes(32), b"")):
        with pytest.raises(ValueError, match="32 bytes"):
            session_secret(one, other)


def test_the_running_hash_by_hand() -> None:
    running = RunningHash(SECRET)
    value = hashlib.sha256(b"tirami/1/running" + SECRET).digest()
    assert running.digest() == value
    for ids, text in (([1, 2, 300], b"abc"), ([], "日本".encode()), ([7], b"")):
        running.update(ids, text)
        value = hashlib.sha256(value + msgspec.msgpack.encode([ids, text])).digest()
        assert running.digest() == value


def test_the_running_hash_depends_on_secret_ids_text_and_cuts() -> None:
    def of(secret: bytes, *chunks: tuple[list[int], bytes]) -> bytes:
        running = RunningHash(secret)
        for ids, text in chunks:
            running.update(ids, text)
        return running.digest()

    digests = [
        of(SECRET, ([1, 2], b"ab")),
        of(SECRET, ([1], b"a"), ([2], b"b")),
        of(SECRET, ([2, 1], b"ab")),
        of(SECRET, ([1, 2], b"ba")),
        of(SECRET, ([1, 2], b"ab"), ([], b"")),
        of(bytes(32), ([1, 2], b"ab")),
    ]
    assert len(set(digests)) == len(digests)
    with pytest.raises(ValueError, match="32 bytes"):
        RunningHash(b"short")


def test_prompt_hash() -> None:
    assert prompt_hash(SECRET, [1, 2], "ignored") == prompt_hash(SECRET, (1, 2), "")
    different = [
        prompt_hash(SECRET, [1, 2], ""),
        prompt_hash(SECRET, [], ""),
        prompt_hash(SECRET, [], "text"),
        prompt_hash(SECRET, [], "\x92\x01\x02"),
        prompt_hash(bytes(32), [1, 2], ""),
    ]
    assert len(set(different)) == len(different)
    content = msgspec.msgpack.encode([[1, 2], b""])
    assert different[0] == hashlib.sha256(b"tirami/1/prompt" + SECRET + content).digest()


def test_what_shapes_an_answer_is_under_the_prompt_hash() -> None:
    plain, shaped = prompt_hash(SECRET, [1, 2], ""), prompt_hash(SECRET, [1, 2], "", b'{"stop":["x"]}')
    by_hand = msgspec.msgpack.encode([[1, 2], b"", b'{"stop":["x"]}'])
    assert shaped == hashlib.sha256(b"tirami/1/prompt" + SECRET + by_hand).digest()
    assert prompt_hash(SECRET, [1, 2], "", b"") == plain != shaped
