"""A file that is being fetched shows up whole and right, or not at all."""

import errno
import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
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


def interrupted(target: Path, version: str, data: bytes) -> None:
    """A download that ends in the middle."""
    with pytest.raises(KeyboardInterrupt):
        with Download(target, len(DATA), None, None) as download:
            download.resume(version)
            download.write(data)
            raise KeyboardInterrupt


def test_a_resumable_download_goes_on(target: Path) -> None:
    interrupted(target, "v1", DATA[:3])
    with Download(target, len(DATA), DIGEST, None) as download:
        download.resume("v1")
        assert download.written == 3
        download.write(DATA[3:])
        assert download.keep() == DIGEST
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("version", ["v2", ""])
def test_another_version_or_none_starts_over(target: Path, version: str) -> None:
    interrupted(target, "v1", b"old")
    with Download(target, len(DATA), DIGEST, None) as download:
        download.resume(version)
        assert download.written == 0
        download.write(DATA)
        assert download.keep() == DIGEST


def test_without_a_version_nothing_is_kept(target: Path) -> None:
    interrupted(target, "", DATA[:3])
    assert not list(target.parent.iterdir())


def test_a_crash_between_two_checkpoints_costs_what_came_after_the_last(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.infer.download.CHECKPOINT_BYTES", 4)
    script = (
        "import os, sys; from pathlib import Path; from tirami.infer import download as d; d.CHECKPOINT_BYTES = 4\n"
        f"with d.Download(Path({str(target)!r}), 7, None, None) as it:\n"
        "    it.resume('v1'); it.write(b'weig'); it.write(b'ht'); it._file.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with Download(target, len(DATA), DIGEST, None) as download:
        download.resume("v1")
        assert download.written == 4
        download.write(DATA[4:])
        assert download.keep() == DIGEST


def test_what_another_way_left_is_not_continued_by_one_that_does_not_resume(target: Path) -> None:
    interrupted(target, "v1", b"hub bytes")
    with Download(target, len(DATA), DIGEST, None) as download:
        download.write(DATA)
        assert download.keep() == DIGEST
    assert list(target.parent.iterdir()) == [target]


def test_one_process_writes_and_another_waits_for_it(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tirami.infer.download.LOCK_POLL_S", 0.01)
    entered = threading.Event()

    def second() -> bool:
        with Download(target, len(DATA), DIGEST, lambda done, size: entered.set()) as download:
            return download.waited and target.read_bytes() == DATA

    with ThreadPoolExecutor(1) as pool:
        with Download(target, len(DATA), DIGEST, None) as download:
            waiting = pool.submit(second)
            assert entered.wait(10)
            download.write(DATA)
            download.keep()
        assert waiting.result(10)
    assert list(target.parent.iterdir()) == [target]


def test_who_waits_can_give_up(target: Path) -> None:
    def enough(done: int, size: int) -> None:
        raise KeyboardInterrupt

    with Download(target, 1, None, None), pytest.raises(KeyboardInterrupt), Download(target, 1, None, enough):
        pytest.fail("two wrote one file")
