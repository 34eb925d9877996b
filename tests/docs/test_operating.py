"""The operator's guide is true: every command runs, the unit starts what it says, the settings exist."""

import configparser
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from tests.docs.test_readme import Reader, commands
from tirami.cli.app import app
from tirami.core.config import KEYS, environment_variable, load_config
from tirami.testing import start_engine

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [found[2] for found in BLOCK.finditer(GUIDE.read_text()) if found[1] == kind]


def unit() -> tuple[str, configparser.RawConfigParser]:
    text = next(block for block in blocks("ini") if "[Service]" in block)
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return text, parser


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    engine = start_engine()
    yield Reader(tmp_path, engine.url)
    engine.stop()


@pytest.mark.timeout(300)
def test_every_command_of_the_guide_works_in_its_order(reader: Reader) -> None:
    typed = [command for block in blocks("console") for command in commands("console", block)]
    assert sum(command.startswith("tirami start") for command in typed) == 1
    node = None
    try:
        for command in typed:
            if command.startswith("tirami start"):
                node = reader.start(command)
                continue
            code, output = reader.type(command)
            assert code == 0, f"{command}\n{output}"
    finally:
        assert node is not None
        node.send_signal(signal.SIGTERM)
        assert node.wait(20) == 0
    assert (reader.home / "restored" / "journal.db").exists()


def test_the_units_command_is_one(tmp_path: Path) -> None:
    _, parser = unit()
    program, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert Path(program).name == "tirami"
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group) or hasattr(command, "get_command")
    context = command.make_context("tirami", arguments, resilient_parsing=True)
    chosen = command.get_command(context, arguments[0])  # type: ignore[attr-defined]
    parsed = chosen.make_context(arguments[0], arguments[1:])
    assert str(parsed.params["data_dir"]).startswith(parser["Service"]["ReadWritePaths"])
    assert "KillSignal" not in parser["Service"], "SIGTERM saves and ends"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text, _ = unit()
    file = tmp_path / "tirami.service"
    file.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    try:
        judged = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("no systemd-analyze here")
    assert not [line for line in judged.stderr.splitlines() if str(file) in line or "tirami.service" in line]


def test_the_units_environment_is_settings_and_nothing_else() -> None:
    text = next(block for block in blocks("ini") if "[Service]" not in block)
    environment = dict(line.split("=", 1) for line in text.splitlines())
    known = {environment_variable(key) for key in KEYS}
    assert set(environment) <= known
    assert load_config(None, environment, {}).journal.low_disk_mib == 1024


def test_every_setting_the_guide_names_exists() -> None:
    named = re.findall(
        r"`((?:api|auth|infer|journal|keystore|log|mesh|network|pricing)\.[a-z_]+)(?: = [^`]*)?`", GUIDE.read_text()
    )
    names = {name for name in named if not name.endswith((".db", ".key", ".token", ".json"))}
    assert len(names) >= 5
    assert names <= set(KEYS)
