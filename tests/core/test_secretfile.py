"""Secrets on disk: complete or absent, mine alone, never overwritten."""

import os
import stat
from pathlib import Path

import pytest

from tirami.core.errors import KeyFileError
from tirami.core.secretfile import MAX_SECRET, read_secret, write_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_created_0600_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_secret(tmp_path / "secret", b"data")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600
    assert read_secret(tmp_path / "secret") == b"data"


def test_missing_parents_are_0700(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "a" / "b" / "secret", b"data")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_never_overwritten_and_nothing_left_behind(tmp_path: Path) -> None:
    write_secret(tmp_path / "secret", b"first")
    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "secret", b"second")
    assert read_secret(tmp_path / "secret") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o610, 0o601, 0o666])
def test_open_to_others_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"data")
    path.chmod(bits)
    with pytest.raises(KeyFileError, match=f"{bits:04o}") as caught:
        read_secret(path)
    assert str(path) in caught.value.message
    assert caught.value.data == {"path": str(path)}


def test_missing_files_directories_and_pipes_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", ".", "pipe"):
        with pytest.raises(KeyFileError) as caught:
            read_secret(tmp_path / name)
        assert str(tmp_path / name) in caught.value.message


def test_too_large_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "just", bytes(MAX_SECRET))
    assert len(read_secret(tmp_path / "just")) == MAX_SECRET
    write_secret(tmp_path / "over", bytes(MAX_SECRET + 1))
    with pytest.raises(KeyFileError, match="larger"):
        read_secret(tmp_path / "over")
