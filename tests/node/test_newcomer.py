"""What an invitation writes down in a directory, and what it leaves alone."""

from pathlib import Path

import pytest

from tirami.core.config import Config, load_config
from tirami.core.errors import InvalidField
from tirami.core.keys import SigningKey
from tirami.net import PeerAddress
from tirami.net.invites import Invitation, number
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


def test_what_is_there_is_left_alone_and_who_has_to_act_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "config.toml"
    mine.write_text("# mine\n")
    assert settle_in(TOKEN, settings(tmp_path)) == mine
    assert mine.read_text() == "# mine\n"
    assert settle_in(TOKEN, settings(tmp_path, **{"mesh.enabled": True})) is None


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
