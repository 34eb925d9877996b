"""The node key on disk."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tirami.core.errors import KeyFileError
from tirami.core.keyfile import load_or_create_node_key


def stored(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_created_once_then_loaded(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "node.key"
    key, created = load_or_create_node_key(path)
    again, created_again = load_or_create_node_key(path)
    assert (created, created_again) == (True, False)
    assert key.seed == again.seed == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.sign(b"x") == key.sign(b"x")


@pytest.mark.parametrize(
    ("data", "public_key"),
    [
        (b"\x01" * 32, "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"),
        (b"\x07" * 32, "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"),
        (b"\x42" * 32, "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"),
        (b"ab" * 32 + b"\n", "248acbdbaf9e050196de704bea2d68770e519150d103b587dae2d9cad53dd930"),
        (b" \t" + b"AB" * 32 + b"\r\n\n", "248acbdbaf9e050196de704bea2d68770e519150d103b587dae2d9cad53dd930"),
    ],
)
def test_raw_or_hexadecimal(tmp_path: Path, data: bytes, public_key: str) -> None:
    key, created = load_or_create_node_key(stored(tmp_path / "node.key", data))
    assert (key.public_key.hex(), created) == (public_key, False)


def test_32_bytes_of_text_are_raw(tmp_path: Path) -> None:
    text = b"0123456789abcdef0123456789abcde\n"
    key, _ = load_or_create_node_key(stored(tmp_path / "node.key", text))
    assert key.seed == text


@pytest.mark.parametrize(
    "data",
    [b"", b"not a key", b"\x01" * 31, b"\x01" * 33, b"ab" * 31, b"ab" * 33, b"zz" * 32, b"ab " * 32, b"\xff" * 64],
)
def test_anything_else_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = stored(tmp_path / "node.key", data)
    with pytest.raises(KeyFileError) as caught:
        load_or_create_node_key(path)
    assert str(path) in caught.value.message
    assert path.read_bytes() == data


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "node.key", b"\x01" * 32)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="0644"):
        load_or_create_node_key(path)


def test_dangling_links_and_files_in_the_way_are_errors_not_new_keys(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "link", tmp_path / "file" / "node.key"):
        with pytest.raises(KeyFileError) as caught:
            load_or_create_node_key(path)
        assert str(path) in caught.value.message
    assert not (tmp_path / "nowhere").exists()


def test_a_race_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: load_or_create_node_key(path), range(32)))
    assert sum(created for _, created in results) == 1
    assert {key.seed for key, _ in results} == {path.read_bytes()}
    assert [item.name for item in tmp_path.iterdir()] == ["node.key"]
