"""What ``tirami config`` says of settings, and that it never says a secret."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tirami.core.config import KEYS


def rows(shell: Shell, *options: str, **environment: str) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in shell.run("config", "show", "--json", *options, **environment).json}


def settled(shell: Shell, text: str, name: str = ".tirami/config.toml") -> Path:
    file = shell.home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.row("CLI-02")
def test_defaults(nowhere: Shell) -> None:
    shown = rows(nowhere)
    assert set(shown) == set(KEYS)
    assert {row["origin"] for row in shown.values()} == {"default"}
    assert shown["infer.model"]["value"] == "qwen2.5:0.5b"
    assert (shown["api.bind"]["value"], shown["api.port"]["value"]) == ("127.0.0.1", 3000)
    assert shown["data_dir"]["value"] == str(nowhere.home / ".tirami")
    assert nowhere.run("config", "show", "--changed").out == "Every setting is a default.\n"
    assert nowhere.run("config", "show", "--changed", "--json").json == []
    assert not (nowhere.home / ".tirami").exists(), "looking makes nothing"


def test_each_value_says_where_it_comes_from(nowhere: Shell) -> None:
    file = settled(nowhere, '[api]\nport = 4000\nrate_per_second = 5\ncors_origins = ["https://a.example"]\n')
    shown = rows(nowhere, "--changed", TIRAMI_API_PORT="5000", TIRAMI_LOG_LEVEL="debug")
    assert shown == {
        "api.port": {"key": "api.port", "value": 5000, "origin": "environment", "from": "TIRAMI_API_PORT"},
        "api.rate_per_second": {"key": "api.rate_per_second", "value": 5, "origin": "file", "from": str(file)},
        "api.cors_origins": {
            "key": "api.cors_origins", "value": ["https://a.example"], "origin": "file", "from": str(file),
        },
        "log.level": {"key": "log.level", "value": "debug", "origin": "environment", "from": "TIRAMI_LOG_LEVEL"},
    }  # fmt: skip
    table = nowhere.run("config", "show", "--changed", COLUMNS="200").out
    assert "api.rate_per_second" in table and str(file) in table and "5" in table


def test_the_data_directory_names_its_origin_too(nowhere: Shell) -> None:
    elsewhere = str(nowhere.home / "elsewhere")
    assert rows(nowhere, TIRAMI_DATA_DIR=elsewhere)["data_dir"]["origin"] == "environment"
    assert rows(nowhere, "--data-dir", elsewhere)["data_dir"] == {
        "key": "data_dir", "value": elsewhere, "origin": "flag", "from": None,
    }  # fmt: skip


def test_the_file_of_the_data_directory_counts_unless_another_is_named(nowhere: Shell) -> None:
    settled(nowhere, "[api]\nport = 4000\n")
    other = settled(nowhere, "[api]\nport = 4001\n", "other.toml")
    settled(nowhere, "[api]\nport = 4002\n", "dir/config.toml")
    assert rows(nowhere)["api.port"]["value"] == 4000
    assert rows(nowhere, "--config", str(other))["api.port"]["value"] == 4001
    assert rows(nowhere, TIRAMI_CONFIG=str(other))["api.port"]["value"] == 4001
    assert rows(nowhere, "--data-dir", str(nowhere.home / "dir"))["api.port"]["value"] == 4002


def test_a_data_directory_that_names_another_is_refused(nowhere: Shell) -> None:
    settled(nowhere, 'data_dir = "/tmp/x"\n')
    ended = nowhere.run("config", "show", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "config")
    assert "names another" in ended.err


def test_secrets_are_never_shown(nowhere: Shell) -> None:
    secrets = {
        "TIRAMI_KEYSTORE_PASSPHRASE": "hunter2",
        "TIRAMI_INFER_UPSTREAM_API_KEY": "sk-secret",
        "TIRAMI_INFER_UPSTREAM_URL": "http://user:pa55word@127.0.0.1:9/v1",
    }
    for options in (("show",), ("show", "--json"), ("path",), ("path", "--json")):
        ended = nowhere.run("config", *options, COLUMNS="200", **secrets)
        assert ended.code == 0
        assert not any(secret in ended.out + ended.err for secret in ("hunter2", "sk-secret", "pa55word", "user:"))
    shown = rows(nowhere, **secrets)
    assert shown["keystore.passphrase"]["value"] == "(set, not shown)"
    assert str(shown["infer.upstream_url"]["value"]).endswith("@127.0.0.1:9/v1")
    assert rows(nowhere)["keystore.passphrase"]["value"] == ""


def test_path_says_where_everything_lies(nowhere: Shell) -> None:
    facts = nowhere.run("config", "path", "--json").json
    home = nowhere.home / ".tirami"
    assert facts["config_file"] == str(home / "config.toml")
    assert facts["config_file_exists"] is False
    assert (facts["journal"], facts["node_key"]) == (str(home / "journal.db"), str(home / "node.key"))
    assert Path(facts["models_dir"]).parts[-2:] == ("tirami", "models")
    elsewhere = nowhere.run("config", "path", "--json", TIRAMI_INFER_MODELS_DIR="/mnt/models").json
    assert elsewhere["models_dir"] == "/mnt/models"
    settled(nowhere, '[journal]\nfile = "/mnt/books.db"\n')
    facts = nowhere.run("config", "path", "--json").json
    assert (facts["config_file_exists"], facts["journal"]) == (True, "/mnt/books.db")
    assert "/mnt/books.db" in nowhere.run("config", "path").out


def test_check_names_every_problem_and_starts_nothing(nowhere: Shell) -> None:
    good = settled(nowhere, "[api]\nport = 4000\n", "good.toml")
    bad = settled(nowhere, '[api]\nprot = 1\nport = "x"\n[log]\nlevel = "loud"\n', "bad.toml")
    ended = nowhere.run("config", "check", str(good))
    assert (ended.code, ended.out) == (0, f"{good} is right\n")
    ended = nowhere.run("config", "check", str(bad))
    assert ended.code == 1
    assert [key in ended.out for key in ("api.prot", "api.port", "log.level")] == [True] * 3
    ended = nowhere.run("config", "check", str(bad), "--json")
    assert (ended.code, ended.json["ok"]) == (1, False)
    assert [problem["key"] for problem in ended.json["problems"]] == ["api.prot", "api.port", "log.level"]
    assert nowhere.run("config", "check", str(nowhere.home / "none.toml")).code == 1
    nonsense = '[api]\nbind = "not-an-address"\ntls_cert = "/x"\n[mesh]\nslots = 0\nbind = "nonsense"\n'
    nonsense += 'bootstrap = "not a key"\nrelay = "nope"\n'
    ended = nowhere.run("config", "check", str(settled(nowhere, nonsense, "nonsense.toml")), "--json")
    keys = ["mesh.slots", "api.bind", "mesh.bind", "mesh.relay", "mesh.bootstrap", "api.tls_key"]
    assert [problem["key"] for problem in ended.json["problems"]] == keys, "of the wrong type, then what cannot work"
    json.dumps(ended.json)
