"""``tirami worker``: of whom it buys, whatever the settings say."""

from pathlib import Path

import pytest
import typer

from tests.cli.running import Shell
from tests.node.test_newcomer import INVITER, TOKEN
from tirami.cli.worker import _buying
from tirami.core.config import load_config

SEED = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
OTHER = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"


def test_it_buys_of_its_seeds_and_of_nobody_else() -> None:
    wider = {"mesh.consume": "any", "mesh.trusted": OTHER, "mesh.bootstrap": f"{OTHER}@127.0.0.1:1", "mesh.sell": True}
    mesh = _buying(load_config(None, {}, wider), [f"{SEED}@127.0.0.1:2"], None).mesh
    assert (mesh.enabled, mesh.consume, mesh.trusted, mesh.sell) == (True, "trusted", SEED, False)
    assert mesh.bootstrap == f"{OTHER}@127.0.0.1:1 {SEED}@127.0.0.1:2", "it stays connected to more than it buys of"


def test_whoever_invited_is_a_seed() -> None:
    mesh = _buying(load_config(None, {}, {}), [], TOKEN).mesh
    assert (mesh.consume, mesh.trusted) == ("trusted", INVITER.hex())
    assert mesh.bootstrap == f"{INVITER.hex()}@127.0.0.1:4433"


def test_without_any_those_of_the_settings_are_the_seeds() -> None:
    mesh = _buying(load_config(None, {}, {"mesh.bootstrap": f"{OTHER}@127.0.0.1:1"}), [], None).mesh
    assert (mesh.trusted, mesh.bootstrap) == (OTHER, f"{OTHER}@127.0.0.1:1")
    with pytest.raises(typer.BadParameter, match="--join TOKEN"):
        _buying(load_config(None, {}, {}), [], None)


def test_what_is_no_invitation_writes_nothing(nowhere: Shell, tmp_path: Path) -> None:
    ended = nowhere.run("worker", "--join", TOKEN[:-3], "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "invalid_field")
    assert not (nowhere.home / ".tirami").exists()
