"""A file that is being fetched shows up whole and right, or not at all."""

import errno
import hashlib
from pathlib import Path

import pytest

from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer.download import Download

DATA = b"weights"
DIGEST = Digest(hashlib.sha256(DATA).digest())
OTHER = Digest(bytes(32))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("expected", [None, DIGEST])
def test_what_arrives_whole_is_kept(target: Path, expected: Digest | None) -> None:
    with Download(target, len(DATA), expected, None) as download:
        download.write(DATA[:3])
        assert not target.exists()
        download.write(DATA[3:])
        assert download.keep() == DIGEST
    assert target.read_bytes() == DATA
    assert list(target.parent.iterdir()) == [target]


def test_what_is_not_expected_is_refused_and_leaves_the_old_file(target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(ModelDigestMismatch) as caught:
        with Download(target, len(DATA), OTHER, None) as download:
            download.write(DATA)
            download.keep()
    assert caught.value.data == {"expected": OTHER.hex(), "actual": DIGEST.hex()}
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_a_broken_download_leaves_nothing(target: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with Download(target, 1, None, None) as download:
            download.write(DATA)
            raise KeyboardInterrupt
    assert not list(target.parent.iterdir())


def test_what_the_hub_says_is_expected_unless_it_is_known_better(target: Path) -> None:
    with Download(target, 1, DIGEST, None) as download:
        download.expect(OTHER)
        download.write(DATA)
        assert download.keep() == DIGEST
    with Download(target, 1, None, None) as download:
        download.expect(OTHER)
        download.write(DATA)
        with pytest.raises(ModelDigestMismatch):
            download.keep()


def test_progress_never_moves_back_and_ends_at_the_end(target: Path) -> None:
    seen: list[tuple[int, int]] = []
    with Download(target, 5, None, lambda done, size: seen.append((done, size))) as download:
        download.report(4)
        download.write(DATA[:2])
        download.write(DATA[2:])
        download.keep()
    assert seen == [(4, 5), (4, 5), (5, 5), (7, 7)]


def test_a_full_disk_is_said(target: Path) -> None:
    class Full:
        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    with pytest.raises(ModelLoadError, match=r"cannot write model\.gguf: No space left"):
        with Download(target, 1, None, None) as download:
            download._file.close()
            download._file = Full()  # type: ignore[assignment]
            download.write(DATA)
    assert not list(target.parent.iterdir())
