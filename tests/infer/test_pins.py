"""Digests learnt at a first download are held on to."""

import errno
import json
from pathlib import Path

import pytest

from tirami.core.errors import ModelLoadError
from tirami.core.keys import Digest
from tirami.infer import Source
from tirami.infer.pins import Pins
from tirami.infer.sources import HubFile

FREE = Source(HubFile("a/b", "c.gguf"), "c.gguf", 1, None)
FIXED = Source(HubFile("a/b", "d.gguf"), "d.gguf", 1, "11" * 32)
ONE, TWO = Digest(b"\x01" * 32), Digest(b"\x02" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "pins.json"


def test_the_first_digest_stays(path: Path) -> None:
    pins = Pins(path)
    assert pins.get(FREE) is None
    pins.add(FREE, ONE)
    pins.add(FREE, TWO)
    assert Pins(path).get(FREE) == ONE
    assert json.loads(path.read_bytes()) == {"hub:a/b/c.gguf": "01" * 32}
    assert [item.name for item in path.parent.iterdir()] == ["pins.json"]


def test_the_catalogues_digest_comes_first_and_needs_no_pin(path: Path) -> None:
    pins = Pins(path)
    pins.add(FIXED, TWO)
    assert pins.get(FIXED) == b"\x11" * 32
    assert not path.exists()


def test_pins_of_other_sources_are_kept(path: Path) -> None:
    other = Source(HubFile("x/y", "z.gguf"), "z.gguf", 1, None)
    Pins(path).add(FREE, ONE)
    Pins(path).add(other, TWO)
    assert (Pins(path).get(FREE), Pins(path).get(other)) == (ONE, TWO)


def test_a_file_is_read_when_it_has_changed_and_not_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins, read, reads = Pins(path), Path.read_bytes, 0

    def counted(path: Path) -> bytes:
        nonlocal reads
        reads += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert pins.get(FREE) is None
    Pins(path).add(FREE, ONE)
    reads = 0
    assert [pins.get(FREE) for _ in range(3)] == [ONE] * 3
    assert reads == 1
    path.unlink()
    assert pins.get(FREE) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"hub:a/b/c.gguf": 7}', b"\xff", b"{"])
def test_a_file_nobody_understands_is_an_error_and_stays(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        Pins(path).get(FREE)
    assert str(path) in caught.value.message
    with pytest.raises(ModelLoadError):
        Pins(path).add(FREE, ONE)
    assert path.read_bytes() == content


@pytest.mark.parametrize("pinned", ["", "zz", "01", "01" * 31, "01" * 33])
def test_a_digest_that_is_none_is_an_error(path: Path, pinned: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"hub:a/b/c.gguf": pinned}))
    with pytest.raises(ModelLoadError, match="that is none"):
        Pins(path).get(FREE)


def test_pins_that_cannot_be_kept_are_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ModelLoadError, match=r"pins\.json cannot be written: No space"):
        Pins(path).add(FREE, ONE)
