"""Which settings a command that starts a node has, and what is said of variables that are none."""

from pathlib import Path

import pytest

from tests.cli.running import Foreground, Shell
from tirami.cli.settings import misspelt, settings


@pytest.mark.parametrize(
    ("variable", "right"),
    [
        ("TIRAMI_PORT", "TIRAMI_API_PORT"),
        ("TIRAMI_MODEL", "TIRAMI_INFER_MODEL"),
        ("TIRAMI_BIND", "TIRAMI_API_BIND or TIRAMI_MESH_BIND"),
        ("TIRAMI_BOOTSTRAP_PEERS", "TIRAMI_MESH_BOOTSTRAP"),
    ],
)
def test_the_right_variable_is_named(variable: str, right: str) -> None:
    assert misspelt({variable: "x"}) == [f"{variable} is no setting and counts for nothing: did you mean {right}?"]


def test_what_is_right_or_somebody_elses_is_not_mentioned() -> None:
    others = {"TIRAMI_API_PORT": "1", "TIRAMI_DATA_DIR": "x", "TIRAMI_URL": "x", "PORT": "1", "MODEL": "x"}
    assert misspelt({**others, "TIRAMI_PORT": "tcp://10.0.0.1:3000", "TIRAMI_NOWHERE": "1", "TIRAMI_BIND": " "}) == []


def test_a_start_says_it(nowhere: Shell) -> None:
    with Foreground(nowhere, "start", "--no-model", "--port", "0", TIRAMI_MODEL="x") as started:
        started.until("Press Ctrl-C")
        assert started.end() == 0
    assert "Warning: TIRAMI_MODEL is no setting" in started.err and "TIRAMI_INFER_MODEL" in started.err


def test_the_file_of_the_environment_counts_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.toml"
    file.write_text("[api]\nport = 4000\n")
    monkeypatch.setenv("TIRAMI_CONFIG", str(file))
    assert settings(None, tmp_path, {}).api.port == 4000
    named = tmp_path / "named.toml"
    named.write_text("[api]\nport = 5000\n")
    assert settings(named, tmp_path, {}).api.port == 5000
