"""``tirami models`` against a running node, and against this machine's cache where no node runs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.infer.conftest import hub
from tests.infer.ggufs import write_gguf
from tests.infer.hubs import Hub
from tests.processes import NodeProcess
from tirami.infer import hub as client

__all__ = ["hub"]
PATH = "/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q4_k_m.gguf"
NAME = "qwen2.5:0.5b"
ALIASES = ["qwen2.5:0.5b", "qwen2.5:1.5b", "qwen2.5:3b", "qwen2.5:7b", "qwen2.5:14b", "qwen2.5:32b", "smollm2:135m"]


@pytest.fixture
def data(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small file in the place of the default model."""
    hub.files[PATH] = write_gguf(tmp_path / "source.gguf").read_bytes()
    monkeypatch.setattr(client, "RETRY_PAUSE_S", 0.0)
    return hub.files[PATH]


@pytest.fixture
def alone(hub: Hub, tmp_path: Path) -> Shell:
    """A home where no node runs, with room said to be enough and a cache of its own."""
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home, XDG_CACHE_HOME=str(tmp_path / "cache"), HF_ENDPOINT=hub.url, HF_TOKEN_PATH=str(home / "none"))


@pytest.fixture
def beside(engine: object, hub: Hub, data: bytes, tmp_path: Path) -> Iterator[Shell]:
    """At home where a node runs whose hub is ours."""
    home = tmp_path / "beside" / ".tirami"
    env = {"HF_ENDPOINT": hub.url, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TIRAMI_INFER_MODEL": ""}
    with NodeProcess(home, "--no-model", env=env):
        yield Shell(home.parent)


def entry(shell: Shell, name: str = NAME) -> dict[str, object]:
    listed = shell.run("models", "list", "--json")
    assert listed.code == 0, listed.err
    return next(found for found in listed.json["models"] if found["model"] == name)


def test_the_list_is_for_people_and_for_programs(alone: Shell) -> None:
    for words in (("models",), ("models", "list")):
        shown = alone.run(*words, COLUMNS="120")
        assert shown.code == 0, shown.err
        assert all(column in shown.out for column in ("Model", "State", "Size", "SHA-256"))
        assert all(alias in shown.out for alias in ALIASES)
        assert "~491 MB" in shown.out
    listed = alone.run("models", "--json")
    assert {row["model"] for row in listed.json["models"]} == {*ALIASES, "gemma3:270m"}
    assert {row["state"] for row in listed.json["models"]} == {"available"}
    assert listed.json["memory_budget_bytes"] > 0


@pytest.mark.parametrize("where", ["alone", "beside"])
def test_pull_list_and_rm(where: str, request: pytest.FixtureRequest, hub: Hub, data: bytes) -> None:
    shell: Shell = request.getfixturevalue(where)
    digest = hashlib.sha256(data).hexdigest()
    pulled = shell.run("models", "pull", NAME)
    assert pulled.code == 0, pulled.err
    assert digest in pulled.out
    assert hub.methods() == ["HEAD", "GET"]
    found = entry(shell)
    assert (found["state"], found["digest"], found["size_bytes"]) == ("installed", digest, len(data))
    assert shell.run("models", "pull", NAME, "--json").json["state"] == "installed"
    assert hub.methods() == ["HEAD", "GET"]
    removed = shell.run("models", "rm", NAME, "--json")
    assert removed.json == {"model": NAME, "freed_bytes": len(data)}
    assert entry(shell)["state"] == "available"
    assert entry(shell)["digest"] == digest, "pinned from now on"
    again = shell.run("models", "rm", NAME)
    assert (again.code, again.out) == (1, "")
    assert "(model_not_found)" in again.err


@pytest.mark.parametrize("where", ["alone", "beside"])
def test_what_cannot_be_pulled(where: str, request: pytest.FixtureRequest, hub: Hub, data: bytes) -> None:
    shell: Shell = request.getfixturevalue(where)
    unknown = shell.run("models", "pull", "gpt-9", "--json")
    assert (unknown.code, unknown.json["error"]["code"]) == (1, "model_not_found")
    missing = shell.run("models", "pull", "qwen2.5:1.5b")
    assert missing.code == 1
    assert "answers 404" in missing.err
    hub.etag = "ab" * 32
    changed = shell.run("models", "pull", NAME, "--json")
    assert changed.code == 1
    assert "refused" in changed.json["error"]["message"]
    assert entry(shell)["state"] == "available"


def test_a_pull_goes_on_where_the_last_command_ended(alone: Shell, hub: Hub, data: bytes) -> None:
    hub.cuts, hub.cut = [100], 0
    broken = alone.run("models", "pull", NAME)
    assert broken.code == 1
    assert "goes on after 100 bytes" in broken.err
    hub.cut = None
    assert alone.run("models", "pull", NAME).code == 0
    assert hub.asked[-1].range == "bytes=100-"


def test_offline_fetches_nothing_and_has_what_is_there(alone: Shell, hub: Hub, data: bytes) -> None:
    refused = alone.run("models", "pull", NAME, "--offline")
    assert refused.code == 1
    assert "offline" in refused.err
    assert hub.asked == []
    assert alone.run("models", "pull", NAME).code == 0
    assert alone.run("models", "pull", NAME, "--offline").code == 0
    asked = alone.run("chat", "--offline", "--model", "qwen2.5:3b", "hi", "--json")
    assert asked.code == 1
    assert "offline" in asked.json["error"]["message"]
    assert hub.methods() == ["HEAD", "GET"]


def test_loading_what_is_not_installed(shell: Shell) -> None:
    for command in ("load", "unload"):
        ended = shell.run("models", command, "qwen2.5:32b", "--json")
        assert (ended.code, ended.json["error"]["code"]) == (1, "model_not_found")


def test_a_load_that_fails_is_an_error_of_the_command(beside: Shell, data: bytes) -> None:
    assert beside.run("models", "pull", NAME).code == 0
    ended = beside.run("models", "load", NAME)
    assert (ended.code, ended.out) == (1, "")
    assert "cannot load" in ended.err
    assert "cannot load" in str(entry(beside)["problem"])


def test_the_model_of_an_upstream_is_in_the_list(shell: Shell) -> None:
    first = shell.run("models", "--json").json["models"][0]
    assert (first["state"], first["memory_bytes"]) == ("loaded", 0)
    for word in ("rm", "unload"):
        assert shell.run("models", word, first["model"]).code == 1
    assert shell.run("models", "--json").json["models"][0] == first


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_settings_of_the_data_directory_count(alone: Shell, hub: Hub, data: bytes, by_variable: bool) -> None:
    shelf = alone.home / "shelf"
    file = alone.home / ("settings.toml" if by_variable else ".tirami/config.toml")
    file.parent.mkdir(exist_ok=True, mode=0o700)
    file.write_text(f'[mesh]\nenabled = true\n[infer]\nmodels_dir = "{shelf}"\n')
    named = {"TIRAMI_CONFIG": str(file)} if by_variable else {}
    pulled = alone.run("models", "pull", NAME, **named)
    assert pulled.code == 0, pulled.err
    assert [path.stat().st_size for path in shelf.rglob("*.gguf")] == [len(data)]


def test_a_node_that_is_named_is_asked(alone: Shell) -> None:
    for variable in ("TIRAMI_URL", "FORGE_URL"):
        ended = alone.run("models", "--json", **{variable: "http://127.0.0.1:1"})
        assert (ended.code, ended.json["error"]["code"]) == (1, "no_node")
