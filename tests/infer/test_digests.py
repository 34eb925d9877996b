"""Remembered digests are believed for the very file only."""

import hashlib
import os
from pathlib import Path

import pytest

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import digests
from tirami.infer.digests import DigestBook, file_digest


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that was really read."""
    seen: list[Path] = []

    def counted(path: Path, limit: int | None = None) -> Digest:
        seen.append(path)
        return file_digest(path, limit)

    monkeypatch.setattr(digests, "file_digest", counted)
    return seen


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    return path


@pytest.mark.parametrize("limit", [None, 0, 1, 1 << 20, (1 << 20) + 1, 10 << 20])
def test_a_digest_is_sha256_of_the_beginning(tmp_path: Path, limit: int | None) -> None:
    data = os.urandom((2 << 20) + 7)
    (tmp_path / "f").write_bytes(data)
    assert file_digest(tmp_path / "f", limit) == sha(data[:limit])


def test_a_file_is_hashed_once(tmp_path: Path, file: Path, hashed: list[Path]) -> None:
    assert DigestBook(tmp_path / "book").digest(file) == sha(b"one")
    assert DigestBook(tmp_path / "book").digest(file) == sha(b"one")
    assert hashed == [file]


def test_a_changed_file_is_hashed_again(tmp_path: Path, file: Path, hashed: list[Path]) -> None:
    book = DigestBook(tmp_path / "book")
    book.digest(file)
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert book.digest(file) == sha(b"two")
    replaced = file.with_name("other")
    replaced.write_bytes(b"six")
    os.utime(replaced, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    replaced.replace(file)
    assert book.digest(file) == sha(b"six")
    file.write_bytes(b"longer")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert book.digest(file) == sha(b"longer")
    assert len(hashed) == 4


@pytest.mark.parametrize("note", [b"", b"{}", b"not json", b'{"size":3,"mtime_ns":1,"inode":1,"sha256":"zz"}'])
def test_a_note_that_cannot_be_read_costs_hashing_again(
    tmp_path: Path, file: Path, hashed: list[Path], note: bytes
) -> None:
    book = DigestBook(tmp_path / "book")
    book.digest(file)
    (place,) = (tmp_path / "book").iterdir()
    place.write_bytes(note)
    assert book.digest(file) == sha(b"one")
    assert len(hashed) == 2


def test_a_note_with_a_short_digest_is_not_believed(tmp_path: Path, file: Path) -> None:
    book = DigestBook(tmp_path / "book")
    book.note(file, Digest(b"\x01"))
    assert book.digest(file) == sha(b"one")


def test_a_book_that_cannot_be_written_still_answers(tmp_path: Path, file: Path) -> None:
    (tmp_path / "book").write_bytes(b"a file in the way")
    assert DigestBook(tmp_path / "book").digest(file) == sha(b"one")


def test_a_missing_file_is_an_error_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"cannot load nowhere\.gguf: No such file"):
        DigestBook(tmp_path).digest(tmp_path / "nowhere.gguf")
