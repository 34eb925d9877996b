"""Settings: who wins, what is refused, where a value came from."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from tirami.core.config import KEYS, Config, environment_variable, is_secret, load_config, problems
from tirami.core.errors import ConfigError

DEFAULTS = {
    "api.bind": "127.0.0.1",
    "api.port": 3000,
    "api.body_limit": 65_536,
    "api.openai_body_limit": 4_194_304,
    "api.compat": "none",
    "api.rate_per_second": 30,
    "api.cors_origins": (),
    "api.tls_cert": "",
    "api.tls_key": "",
    "auth.loopback_owner": True,
    "infer.engine": "embedded",
    "infer.model": "qwen2.5:0.5b",
    "infer.models": "",
    "infer.memory_budget_mib": 0,
    "infer.slots": 8,
    "infer.context": 2048,
    "infer.threads": 0,
    "infer.upstream_url": "",
    "infer.upstream_model": "",
    "infer.upstream_api_key": "",
    "infer.upstream_parameters": 0,
    "infer.upstream_active_parameters": 0,
    "infer.upstream_context": 0,
    "infer.offline": False,
    "infer.models_dir": "",
    "infer.queue": 256,
    "infer.memory_limit_mib": 0,
    "infer.start_timeout_s": 120,
    "pricing.prompt_ppm": 250_000,
    "pricing.follow_load": True,
    "pricing.half_life_s": 1_800,
    "network.file": "",
    "mesh.enabled": False,
    "mesh.bind": "0.0.0.0:0",
    "mesh.relay": "off",
    "mesh.bootstrap": "",
    "mesh.peers": 8,
    "mesh.lan": True,
    "mesh.dns": "",
    "mesh.nostr": "",
    "mesh.invitation": "",
    "mesh.sell": True,
    "mesh.slots": 4,
    "mesh.idle_only": False,
    "mesh.consume": "off",
    "mesh.overflow": False,
    "mesh.trusted": "",
    "mesh.denied": "",
    "mesh.max_trm": 0,
    "mesh.operator": "",
    "agent.enabled": True,
    "agent.tick_interval_s": 30,
    "log.level": "info",
    "log.format": "json",
    "log.file": "",
    "journal.accept_rollback": False,
    "journal.file": "",
    "journal.low_disk_mib": 256,
    "keystore.accept_locked": False,
    "keystore.passphrase": "",
}


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def value(config: Config, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def test_every_key_and_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(None, {}, {})
    assert {key: value(config, key) for key in KEYS if key != "data_dir"} == DEFAULTS
    assert config.data_dir == tmp_path / ".tirami"
    assert {config.origin(key) for key in KEYS} == {"default"}


def test_defaults_file_environment_flags(tmp_path: Path) -> None:
    file = toml(tmp_path, 'data_dir = "/f"\n[api]\nport = 1\nbody_limit = 2000\nrate_per_second = 3\n')
    environ = {"TIRAMI_API_PORT": "10", "TIRAMI_API_BODY_LIMIT": "20000", "PATH": "/bin"}
    config = load_config(file, environ, {"api.port": 100, "api.bind": None})
    assert (config.api.port, config.api.body_limit, config.api.rate_per_second) == (100, 20_000, 3)
    assert (config.data_dir, config.api.bind) == (Path("/f"), "127.0.0.1")
    assert [
        config.origin(key) for key in ("api.port", "api.body_limit", "api.rate_per_second", "api.bind", "data_dir")
    ] == [
        "flag",
        "environment",
        "file",
        "default",
        "file",
    ]


@pytest.mark.parametrize("key", [key for key in KEYS if key != "data_dir"])
def test_every_key_can_be_set_from_every_place(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    default = DEFAULTS[key]
    other: object
    if isinstance(default, bool):
        other, text = not default, str(not default).lower()
    elif isinstance(default, int):
        other = {"infer.slots": 4, "infer.threads": 4, "mesh.slots": 6, "mesh.peers": 5}.get(key, 2_000)
        text = str(other)
    elif isinstance(default, tuple):
        other, text = ("https://a.example", "http://[::1]:8080"), "https://a.example, http://[::1]:8080"
    else:
        choices = {"log.level": "debug", "log.format": "text", "api.compat": "forge", "infer.engine": "llama-server"}
        choices["mesh.consume"] = "any"
        other = choices.get(key, "/x")
        text = str(other)
    written = text if isinstance(default, int) else f'"{text}"'
    if isinstance(default, tuple):
        written = '["https://a.example", "http://[::1]:8080"]'
    for config, origin in (
        (load_config(toml(tmp_path, f"[{section}]\n{name} = {written}\n"), {}, {}), "file"),
        (load_config(None, {f"TIRAMI_{section}_{name}".upper(): text}, {}), "environment"),
        (load_config(None, {}, {key: other}), "flag"),
        (load_config(None, {}, {}).with_flags({key: other}), "flag"),
    ):
        assert (value(config, key), config.origin(key)) == (other, origin)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("nonsense = 1", "nonsense"),
        ("port = 1", "port"),
        ("[api]\nprot = 1", "api.prot"),
        ("[apis]\nport = 1", "apis"),
        ("api = 1", "api"),
        ("[api]\nport = '80'", "api.port"),
        ("[api]\nport = true", "api.port"),
        ("[api]\nport = 80.0", "api.port"),
        ("[api]\nport = -1", "api.port"),
        ("[api]\nport = 65536", "api.port"),
        ("[api.port]\nx = 1", "api.port"),
        ("[api]\nbind = 1", "api.bind"),
        ("[auth]\nloopback_owner = 1", "auth.loopback_owner"),
        ("[auth]\nloopback_owner = 'true'", "auth.loopback_owner"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[log]\nlevel = ['info']", "log.level"),
        ("[infer]\nslots = 0", "infer.slots"),
        ("data_dir = 1", "data_dir"),
        ("data_dir = ''", "data_dir"),
        ("[data_dir]\nx = 1", "data_dir"),
        ("[network]\nfile = 1", "network.file"),
    ],
)
def test_the_file_is_refused_naming_the_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(toml(tmp_path, text), {}, {})
    assert caught.value.param == key
    assert key in caught.value.message


@pytest.mark.parametrize(
    ("variable", "text", "key"),
    [
        ("TIRAMI_API_PROT", "1", "api.prot"),
        ("TIRAMI_API_", "1", "api."),
        ("TIRAMI_API_PORT", "", "api.port"),
        ("TIRAMI_API_PORT", "x", "api.port"),
        ("TIRAMI_API_PORT", "-1", "api.port"),
        ("TIRAMI_API_PORT", "1_0", "api.port"),
        ("TIRAMI_API_PORT", "٣", "api.port"),
        ("TIRAMI_API_PORT", "9" * 5_000, "api.port"),
        ("TIRAMI_AUTH_LOOPBACK_OWNER", "yes", "auth.loopback_owner"),
        ("TIRAMI_AUTH_LOOPBACK_OWNER", "", "auth.loopback_owner"),
        ("TIRAMI_LOG_FORMAT", "xml", "log.format"),
        ("TIRAMI_DATA_DIR", "", "data_dir"),
    ],
)
def test_the_environment_is_refused_naming_the_key(variable: str, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {variable: text}, {})
    assert caught.value.param == key
    assert variable in caught.value.message


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_truth_in_the_environment(text: str, expected: bool) -> None:
    assert load_config(None, {"TIRAMI_AUTH_LOOPBACK_OWNER": text}, {}).auth.loopback_owner is expected


def test_other_variables_are_not_settings() -> None:
    environ = {"TIRAMI_API_TOKEN": "secret", "TIRAMI_NODE_URL": "x", "TIRAMI_": "x", "TIRAMI_API": "x", "API_PORT": "1"}
    assert load_config(None, environ, {}) == load_config(None, {}, {})


@pytest.mark.parametrize(
    "flags", [{"api.prot": 1}, {"api.port": "80"}, {"api.port": True}, {"nonsense": 1}, {"api": 1}]
)
def test_flags_are_refused_naming_the_key(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, flags)
    assert caught.value.param == next(iter(flags))


def test_home_is_expanded_in_paths_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = toml(tmp_path, 'data_dir = "~/d"\n[infer]\nmodel = "~m"\nmodels_dir = "~/m"\n[log]\nfile = "~/l"\n')
    config = load_config(file, {"TIRAMI_NETWORK_FILE": "~/n"}, {})
    assert config.data_dir == tmp_path / "d"
    assert (config.infer.models_dir, config.log.file, config.network.file, config.infer.model) == (
        str(tmp_path / "m"),
        str(tmp_path / "l"),
        str(tmp_path / "n"),
        "~m",
    )
    with pytest.raises(ConfigError, match="data_dir"):
        load_config(None, {}, {"data_dir": "~nobody-has-this-name/x"})


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.toml"):
        load_config(tmp_path / "missing.toml", {}, {})
    for text in ("[api", "port = ", "[api]\nport = 1\nport = 2"):
        with pytest.raises(ConfigError, match="config.toml"):
            load_config(toml(tmp_path, text), {}, {})
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="config.toml"):
        load_config(tmp_path / "config.toml", {}, {})


def test_secrets_show_in_no_representation_and_no_message() -> None:
    config = load_config(None, {"TIRAMI_KEYSTORE_PASSPHRASE": "hunter2", "TIRAMI_INFER_UPSTREAM_API_KEY": "sk-1"}, {})
    assert "hunter2" not in repr(config)
    assert "sk-1" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, {"keystore.passphrase": 4711})
    assert "4711" not in caught.value.message


def test_frozen_and_unknown_origins_refused() -> None:
    config = load_config(None, {}, {})
    with pytest.raises(FrozenInstanceError):
        config.api.port = 1  # type: ignore[misc]
    with pytest.raises(ConfigError):
        config.origin("api.prot")
    changed = config.with_flags({"api.port": 1})
    assert (config.api.port, changed.api.port, config.origin("api.port")) == (3000, 1, "default")


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "https://*.example", "https://a.example/", "HTTPS://a.example", "a.example", "https://a b", "ftp://a",
     "https://a.example:999999", "https://user@a.example", ""],
)  # fmt: skip
def test_an_origin_is_exact_or_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"api\.cors_origins") as caught:
        load_config(None, {}, {"api.cors_origins": ["https://good.example", origin]})
    assert caught.value.param == "api.cors_origins"


def test_origins_are_a_bounded_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"api\.cors_origins"):
        load_config(toml(tmp_path, '[api]\ncors_origins = "https://a.example"\n'), {}, {})
    many = [f"https://h{number}.example" for number in range(65)]
    with pytest.raises(ConfigError, match=r"api\.cors_origins"):
        load_config(None, {}, {"api.cors_origins": many})
    assert load_config(None, {"TIRAMI_API_CORS_ORIGINS": " , "}, {}).api.cors_origins == ()


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    file = toml(tmp_path, 'api = 1\nnonsense = 2\n[infer]\nslots = 0\nqueue = 5\n[log]\nlevel = "loud"\n')
    assert [error.param for error in problems(file)] == ["api", "nonsense", "infer.slots", "log.level"]
    assert problems(toml(tmp_path, "[api]\nport = 1\n")) == []
    assert ["TOML" in error.message for error in problems(toml(tmp_path, "[api"))] == [True]


def test_values_secrets_and_variables_by_key() -> None:
    config = load_config(None, {"TIRAMI_API_PORT": "5"}, {})
    assert (config.value("api.port"), config.value("data_dir")) == (5, config.data_dir)
    with pytest.raises(ConfigError):
        config.value("api.prot")
    secrets = {"infer.upstream_api_key", "mesh.invitation", "keystore.passphrase"}
    assert {key for key in KEYS if is_secret(key)} == secrets
    assert environment_variable("api.tls_cert") == "TIRAMI_API_TLS_CERT"
    assert environment_variable("data_dir") == "TIRAMI_DATA_DIR"


def test_what_else_is_wrong_is_told_of_what_has_the_right_type(tmp_path: Path) -> None:
    file = toml(tmp_path, "[api]\nport = 'x'\nbind = '::'\n")

    def further(config: Config) -> list[ConfigError]:
        return [ConfigError(f"bound to {config.api.bind}", param="api.bind")]

    assert [problem.param for problem in problems(file, further)] == ["api.port", "api.bind"]
