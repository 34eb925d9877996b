"""Files that may be lost: read at the start, written when something has changed."""

from pathlib import Path
from threading import Event, Thread

import pytest

from tirami.node.mesh.keptfile import KeptFile


class Words:
    def __init__(self) -> None:
        self.changes = 0
        self.data = b""

    def say(self, data: bytes) -> None:
        self.data, self.changes = data, self.changes + 1

    def to_bytes(self) -> bytes:
        return self.data

    def restore(self, data: bytes) -> None:
        self.data = data


def test_what_changed_is_written_for_nobody_else_and_read_again(tmp_path: Path) -> None:
    path, words = tmp_path / "words", Words()
    file = KeptFile(path, words, 10)
    file.load()
    file.save()
    assert not path.exists(), "nothing has changed"
    words.say(b"one")
    file.save()
    assert path.read_bytes() == b"one" and path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"two")
    file.save()
    assert path.read_bytes() == b"two", "nothing has changed since"
    again = Words()
    KeptFile(path, again, 10).load()
    assert again.data == b"two"


@pytest.mark.parametrize(("data", "mode"), [(b"0123456789a", 0o600), (b"one", 0o644)])
def test_a_file_that_is_too_large_or_open_to_others_is_none(tmp_path: Path, data: bytes, mode: int) -> None:
    path, words = tmp_path / "words", Words()
    path.write_bytes(data)
    path.chmod(mode)
    KeptFile(path, words, 10).load()
    assert words.data == b""


def test_what_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    path, words = tmp_path / "there" / "words", Words()
    path.parent.write_bytes(b"")
    file = KeptFile(path, words, 10)
    words.say(b"one")
    file.save()
    path.parent.unlink()
    file.save()
    assert path.read_bytes() == b"one"


def test_what_is_written_last_is_what_was_last(tmp_path: Path) -> None:
    """A node that stops writes at once, and a write of before may still be under way in its thread."""
    begun, go_on = Event(), Event()

    class Slow(Words):
        def to_bytes(self) -> bytes:
            data = self.data
            if data == b"one":
                begun.set()
                assert go_on.wait(10)
            return data

    path, words = tmp_path / "words", Slow()
    file = KeptFile(path, words, 10)
    words.say(b"one")
    writes = [Thread(target=file.save) for _ in range(2)]
    writes[0].start()
    assert begun.wait(10)
    words.say(b"two")
    writes[1].start()
    writes[1].join(0.2)
    go_on.set()
    for write in writes:
        write.join(10)
    assert path.read_bytes() == b"two"
    path.unlink()
    file.save()
    assert not path.exists(), "nothing has changed since"
