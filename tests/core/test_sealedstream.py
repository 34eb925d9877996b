"""A stream under a passphrase: what comes out is what went in, or an error."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tirami.core import sealedstream
from tirami.core.errors import BackupError
from tirami.core.sealedstream import CHUNK, MAGIC, OpeningReader, SealingWriter

PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id as light as it goes: its strength is the keystore's test."""
    for name, value in {"ARGON2_KIB": 32, "ARGON2_PASSES": 1, "ARGON2_LANES": 1}.items():
        monkeypatch.setattr(sealedstream, name, value)


def sealed(*pieces: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealingWriter(file, PASSPHRASE)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return file.getvalue()


def opened(data: bytes, passphrase: str = PASSPHRASE, step: int = 1 << 20) -> bytes:
    reader, parts = OpeningReader(io.BytesIO(data), passphrase), []
    while part := reader.read(step):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7])
def test_every_size_comes_back(size: int) -> None:
    plain = bytes(index % 251 for index in range(size))
    assert opened(sealed(plain)) == plain
    assert opened(sealed(plain[:5], plain[5:]), step=1000) == plain


def test_the_same_content_never_looks_the_same() -> None:
    one, two = sealed(b"x" * 100), sealed(b"x" * 100)
    assert one[len(MAGIC) :] != two[len(MAGIC) :]
    assert b"xxxx" not in one


def test_chunks_cannot_be_cut_off_exchanged_repeated_or_appended() -> None:
    data, chunk = sealed(bytes(3 * CHUNK + 7)), CHUNK + 16
    head, rest = data[:31], data[31:]
    first, second, third, last = (rest[at * chunk : (at + 1) * chunk] for at in range(4))
    assert opened(head + first + second + third + last) == bytes(3 * CHUNK + 7)
    for parts in (
        (first, second, third),
        (first, second),
        (first, third, second, last),
        (first, first, second, third, last),
        (second, third, last),
        (first, second, third, last, last),
        (last,),
        (),
    ):
        with pytest.raises(BackupError):
            opened(head + b"".join(parts))


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(position: int, bit: int) -> None:
    data = bytearray(sealed(b"some content" * 20))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(BackupError):
        opened(bytes(data))


def test_only_the_passphrase_opens_it() -> None:
    with pytest.raises(BackupError, match="passphrase"):
        opened(sealed(b"x"), "another horse")
    with pytest.raises(BackupError, match="8 characters"):
        SealingWriter(io.BytesIO(), "1234567")
