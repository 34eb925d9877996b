"""What an invitation writes down in a directory, and what it leaves alone."""

import os
from errno import ENOSPC
from pathlib import Path

import pytest

from tirami.core.config import Config, load_config
from tirami.core.errors import ConfigError, InvalidField
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.invites import Invitation, number
from tirami.node import newcomer
from tirami.node.newcomer import inviter, settle_in
from tirami.node.parts import network_of
from tirami.proto import NetworkFile

INVITER = SigningKey.from_seed(b"\x07" * 32).public_key
OWN = SigningKey.from_seed(b"\x08" * 32).public_key
FILE = NetworkFile.regtest(INVITER)
TOKEN = str(Invitation(number(1, b"0123456789"), bytes(16), PeerAddress(INVITER, ("127.0.0.1:4433",)), FILE))


def settings(home: Path, **flags: object) -> Config:
    return load_config(None, {}, {"data_dir": str(home), **flags})


def test_an_empty_directory_takes_over_the_network_and_stays_on_its_mesh(tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert settle_in(TOKEN, settings(home)) is None
    later = load_config(home / "config.toml", {}, {"data_dir": str(home)})
    assert later.mesh.enabled and network_of(later, OWN) == FILE
    assert home.stat().st_mode & 0o777 == 0o700


def test_what_the_newcomer_chose_is_noted_for_later_starts(tmp_path: Path) -> None:
    address = inviter(TOKEN)
    assert address == f"{INVITER.hex()}@127.0.0.1:4433"
    chosen = {"sell": False, "consume": "trusted", "trusted": INVITER.hex(), "bootstrap": address}
    settle_in(TOKEN, settings(tmp_path), chosen)
    mesh = load_config(tmp_path / "config.toml", {}, {}).mesh
    assert (mesh.enabled, mesh.sell, mesh.consume) == (True, False, "trusted")
    assert (mesh.trusted, mesh.bootstrap) == (INVITER.hex(), address)


CHOSEN = {"sell": False, "consume": "trusted", "bootstrap": "a b"}
MESH = 'enabled = true\nsell = false\nconsume = "trusted"\nbootstrap = "a b"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"[mesh]\n{MESH}"),
        ("# mine", f"# mine\n[mesh]\n{MESH}"),
        ("[api]\nport = 1\n\n[log]\n", f"[api]\nport = 1\n\n[log]\n[mesh]\n{MESH}"),
        (
            "[mesh] # of ours\nenabled=false # not yet\n  consume = 'any'#x\nslots = 2\n[api]\nport = 1\n",
            '[mesh] # of ours\nsell = false\nbootstrap = "a b"\n'
            'enabled=true # not yet\n  consume = "trusted"#x\nslots = 2\n[api]\nport = 1\n',
        ),
        ("[mesh]", f"[mesh]\n{MESH}"),
        ("[mesh]\r\nsell = true\r\n", f"[mesh]\n{MESH}".replace("sell = false\n", "") + "sell = false\r\n"),
    ],
)
def test_what_was_chosen_is_kept_in_settings_that_are_there_and_all_else_stays(
    tmp_path: Path, before: str, after: str
) -> None:
    mine = tmp_path / "config.toml"
    mine.write_bytes(before.encode())
    mine.chmod(0o640)
    assert settle_in(TOKEN, settings(tmp_path), CHOSEN) == mine
    assert mine.read_bytes().decode() == after
    assert mine.stat().st_mode & 0o777 == 0o640
    mesh = load_config(mine, {}, {}).mesh
    assert (mesh.enabled, mesh.sell, mesh.consume, mesh.bootstrap) == (True, False, "trusted", "a b")
    assert settle_in(TOKEN, settings(tmp_path), CHOSEN) is None, "it says so already"
    assert mine.read_bytes().decode() == after


@pytest.mark.parametrize(
    "before",
    [
        "mesh.enabled = true\n",
        "mesh = {sell = true}\n",
        "[mesh]\nconsume = 'any'\nenabled = {}\n",
        '[log]\nfile = """\n[mesh]\n"""\n',
    ],
)
def test_settings_that_cannot_be_changed_stay_and_it_is_said_what_to_write(tmp_path: Path, before: str) -> None:
    mine = tmp_path / "config.toml"
    mine.write_text(before)
    with pytest.raises(ConfigError) as caught:
        settle_in(TOKEN, settings(tmp_path), CHOSEN)
    assert str(mine) in caught.value.message and MESH.strip() in caught.value.message
    assert mine.read_text() == before
    assert not (tmp_path / "network.json").exists(), "nothing is half done"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("before", [None, "[api]\nport = 1\n"], ids=["no settings", "settings"])
def test_a_join_that_is_killed_leaves_no_settings_without_the_network_and_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: int
) -> None:
    mine, file, steps = tmp_path / "config.toml", tmp_path / "network.json", iter(range(after + 1))

    def killed(*_: object, **__: object) -> None:
        if next(steps) == after:
            raise Killed

    if before is not None:
        mine.write_text(before)
    with monkeypatch.context() as patched:
        for name in ("write_bytes", "write_text", "replace"):
            step = getattr(Path, name)
            patched.setattr(Path, name, lambda *given, step=step: (killed(), step(*given))[1])
        try:
            settle_in(TOKEN, settings(tmp_path), CHOSEN)
        except Killed:
            pass
    assert not file.exists() or network_of(settings(tmp_path), OWN) == FILE
    assert file.exists() or not mine.exists() or mine.read_text() == before
    settle_in(TOKEN, settings(tmp_path), CHOSEN)
    assert load_config(mine, {}, {}).mesh.enabled and network_of(settings(tmp_path), OWN) == FILE


def test_a_network_file_of_no_bytes_is_written_again(tmp_path: Path) -> None:
    """As versions left it that were killed while they wrote."""
    (tmp_path / "network.json").touch()
    settle_in(TOKEN, settings(tmp_path))
    assert network_of(settings(tmp_path), OWN) == FILE


def test_settings_that_cannot_be_written_keep_nothing_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, replaced = tmp_path / "config.toml", newcomer.replace_secret
    mine.write_text("[api]\nport = 1\n")

    def full(path: Path, data: bytes) -> None:
        if path == mine:
            raise OSError(ENOSPC, "no space left on device")
        replaced(path, data)

    monkeypatch.setattr(newcomer, "replace_secret", full)
    with pytest.raises(ConfigError, match="no space left"):
        settle_in(TOKEN, settings(tmp_path), CHOSEN)
    assert [one.name for one in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize("case", ["a book", "a file that is named"])
def test_a_network_of_its_own_is_kept(tmp_path: Path, case: str) -> None:
    flags = {"network.file": str(tmp_path / "other.json")} if case == "a file that is named" else {}
    if case == "a book":
        (tmp_path / "journal.db").write_bytes(b"something")
    assert settle_in(TOKEN, settings(tmp_path, **flags)) is None
    assert not (tmp_path / "network.json").exists() and not (tmp_path / "config.toml").exists()


def test_what_is_no_token_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidField):
        settle_in(TOKEN[:-3], settings(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_settings_stay_their_owners_whoever_joins(tmp_path: Path) -> None:
    mine = tmp_path / "config.toml"
    mine.write_text("[mesh]\n")
    os.chown(mine, 4321, 1234)
    assert settle_in(TOKEN, settings(tmp_path), CHOSEN) == mine
    assert (mine.stat().st_uid, mine.stat().st_gid) == (4321, 1234)
