"""``tirami join``: what a newcomer sells and of whom it buys, and which node is told."""

from pathlib import Path

import pytest

from tests.cli.running import Foreground, Shell
from tests.node.test_newcomer import INVITER, TOKEN
from tirami.cli import invite, worker
from tirami.cli.invite import _arriving
from tirami.cli.terminal import Terminal
from tirami.core.config import Config, load_config


def arrived(home: Path, **flags: object) -> tuple[Config, Config]:
    """Settings of a newcomer with these, now and at its later starts."""
    before = load_config(None, {}, {"data_dir": str(home)})
    given = {"mesh.enabled": True, **{f"mesh.{name}": value for name, value in flags.items()}}
    now = _arriving(TOKEN, before, before.with_flags(given), None, Terminal(False))
    return now, load_config(home / "config.toml", {}, {})


def test_it_sells_and_buys_nothing_unless_it_was_said(tmp_path: Path) -> None:
    for config in arrived(tmp_path):
        assert (config.mesh.enabled, config.mesh.sell, config.mesh.consume) == (True, True, "off")


def test_what_was_said_lasts(tmp_path: Path) -> None:
    for config in arrived(tmp_path / "trusting", consume="trusted", sell=False):
        mesh = config.mesh
        assert (mesh.enabled, mesh.sell, mesh.consume, mesh.trusted) == (True, False, "trusted", INVITER.hex())
    for config in arrived(tmp_path / "buying", consume="any"):
        assert (config.mesh.sell, config.mesh.consume, config.mesh.trusted) == (True, "any", "")


def test_what_was_said_lasts_where_there_are_settings_already(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# mine\n[mesh]\nenabled = false\nconsume = 'any'\n")
    mesh = arrived(tmp_path, consume="trusted", sell=False)[1].mesh
    assert (mesh.enabled, mesh.sell, mesh.consume, mesh.trusted) == (True, False, "trusted", INVITER.hex())
    assert mesh.bootstrap == f"{INVITER.hex()}@127.0.0.1:4433"
    assert (tmp_path / "config.toml").read_text().startswith("# mine\n")


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize("command", [("join", TOKEN), ("worker", "--daemon", "--join", TOKEN)], ids=["join", "worker"])
def test_what_was_said_lasts_in_the_file_that_is_named(
    nowhere: Shell, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], by_variable: bool
) -> None:
    started: list[Config] = []
    for module in (invite, worker):
        monkeypatch.setattr(module, "foreground", lambda config, _: started.append(config))
    mine = nowhere.home / "mine.toml"
    mine.write_text("# mine\n[api]\nport = 4000 # ours\n")
    named, environment = ((), {"TIRAMI_CONFIG": str(mine)}) if by_variable else (("--config", str(mine)), {})
    ended = nowhere.run(*command, "--json", *named, **environment)
    assert ended.code == 0, ended.err
    own = nowhere.home / ".tirami"
    assert not (own / "config.toml").exists() and (own / "network.json").exists()
    assert mine.read_text().startswith("# mine\n[api]\nport = 4000 # ours\n[mesh]\n")
    later = load_config(mine, {}, {"data_dir": str(own)})
    assert (later.mesh.enabled, later.mesh.bootstrap) == (True, f"{INVITER.hex()}@127.0.0.1:4433")
    now = started[0].mesh
    assert (later.mesh.sell, later.mesh.consume, later.mesh.trusted) == (now.sell, now.consume, now.trusted)
    assert later.api.port == 4000


def test_a_named_file_that_cannot_be_changed_is_named_and_nothing_is_half_done(nowhere: Shell) -> None:
    mine = nowhere.home / "mine.toml"
    mine.write_text("mesh = {sell = true}\n")
    ended = nowhere.run("join", TOKEN, "--json", "--config", str(mine))
    assert (ended.code, ended.json["error"]["param"]) == (1, "mesh")
    message = str(ended.json["error"]["message"])
    assert str(mine) in message and "enabled = true" in message
    assert not (nowhere.home / ".tirami").exists() and mine.read_text() == "mesh = {sell = true}\n"


@pytest.mark.parametrize("variable", ["TIRAMI_URL", "FORGE_URL"])
def test_a_node_that_is_named_is_told(nowhere: Shell, variable: str) -> None:
    ended = nowhere.run("join", TOKEN, "--json", **{variable: "http://127.0.0.1:1"})
    assert (ended.code, ended.json["error"]["code"]) == (1, "no_node")
    assert not (nowhere.home / ".tirami").exists(), "none was started here"


def test_nothing_is_bought_off_the_mesh(nowhere: Shell) -> None:
    ended = nowhere.run("start", "--consume", "any", "--json")
    assert (ended.code, ended.json["error"]["param"]) == (1, "mesh.enabled")
    assert not (nowhere.home / ".tirami").exists()
    assert nowhere.run("join", TOKEN, "--consume", "some", "--json").json["error"]["param"] == "mesh.consume"


def test_both_ways_to_come_are_named_and_a_listed_number_takes_it_back(shell: Shell, nowhere: Shell) -> None:
    assert "mesh.enabled" in shell.run("invite").err
    options = ("start", "--no-model", "--port", "0")
    quiet = {"TIRAMI_MESH_LAN": "false", "TIRAMI_MESH_BIND": "127.0.0.1:0", "TIRAMI_MESH_ENABLED": "true"}
    with Foreground(nowhere, *options, **quiet) as started:
        started.until("Press Ctrl-C")
        made = nowhere.run("invite", "--label", "for the one in the kitchen")
        assert "tirami worker --join TOKEN " in made.err and "tirami join TOKEN " in made.err
        listed = nowhere.run("invite", "list", COLUMNS="80").out
        assert all(len(line) <= 80 for line in listed.splitlines()), listed
        number = listed.splitlines()[1].split()[0]
        assert "kitchen" in listed and made.err.rstrip().endswith(f"tirami invite revoke {number}")
        assert nowhere.run("invite", "revoke", number).code == 0
        assert "revoked" in nowhere.run("invite", "list").out
        assert started.end() == 0
