"""Vectors of TIP-04: running hash and prompt hash."""

from collections.abc import Sequence

import msgspec
from tests.proto import samples

from tirami.proto import RunningHash, prompt_hash, session_secret
from tools.vectors.case import Case, case
from tools.vectors.tables import fenced


def vectors() -> Case:
    nonces = ((b"\x0a", b"\x0b"), (b"\x0b", b"\x0a"), (b"\x00", b"\x00"))
    chunks: tuple[tuple[list[int], bytes], ...] = (
        ([5_000, 284], "Grüße".encode()),
        ([], b""),
        ([2**31], "日本".encode()),
        ([7], b"\xe6\x97"),
        (list(range(16)), b"sixteen ids"),
        ([255, 256], b"long" * 75),
    )

    def steps(name: str, secret: bytes, parts: Sequence[tuple[list[int], bytes]]) -> Case:
        running = RunningHash(secret)
        rows: list[Case] = [{"hash": running.digest()}]
        for ids, text in parts:
            running.update(ids, text)
            rows.append({"ids": ids, "text": text, "hash": running.digest()})
        return case(name, secret=secret, steps=rows)

    prompts: tuple[tuple[str, tuple[int, ...], str], ...] = (
        ("ids", samples.PROMPT_IDS, ""),
        ("ids; the text does not count", samples.PROMPT_IDS, "ignored"),
        ("text, ids unknown", (), "Grüße"),
        ("neither", (), ""),
        ("text that spells ids", (), "\x92\x01\x02"),
    )
    secret = samples.SECRET
    return {
        "secrets": [
            case(f"nonces of {a.hex()} and {b.hex()}", payer_nonce=a * 32, provider_nonce=b * 32, secret=s)
            for a, b in nonces
            for s in [session_secret(a * 32, b * 32)]
        ],
        "running": [
            steps("six chunks", secret, chunks),
            steps("two tokens in one chunk", secret, [([1, 2], b"ab")]),
            steps("the same two in two chunks: another hash", secret, [([1], b"a"), ([2], b"b")]),
            steps("another secret", bytes(32), [([1, 2], b"ab")]),
        ],
        "prompts": [
            case(name, secret=secret, ids=ids, text=text, hash=prompt_hash(secret, ids, text))
            for name, ids, text in prompts
        ],
    }


def example() -> list[str]:
    running = RunningHash(samples.SECRET)
    lines = [f"secret = {samples.SECRET.hex()}", f"h0     = {running.digest().hex()}"]
    for step, (ids, text) in enumerate((([5_000, 284], "Grüße"), ([], ""), ([2**31], "日本")), start=1):
        running.update(ids, text.encode())
        lines.append(f"h{step}     = {running.digest().hex()}   {msgspec.msgpack.encode([ids, text.encode()]).hex()}")
    return fenced(*lines)
