"""The settings of the node a command starts, and the file they are read from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.target import data_directory
from tirami.core.config import KEYS, PREFIX, Config, environment_variable, load_config
from tirami.core.environment import is_service_link
from tirami.core.errors import ConfigError

FILE_NAME = "config.toml"
OFTEN = {"bootstrap_peers": "mesh.bootstrap", "bootstrap_peer": "mesh.bootstrap", "p2p_bind": "mesh.bind"}
"""Names of settings elsewhere, in the original among others."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="TIRAMI_CONFIG", metavar="FILE", help="TOML settings.  [config.toml of the data directory]"
    ),
]


def settings(named: Path | None, data_dir: Path | None, flags: Mapping[str, object]) -> Config:
    """Defaults < file < environment < ``flags``.

    Args:
        named: the file on the command line; else ``config.toml`` in the data directory, if there is one.
        data_dir: the directory on the command line or in ``TIRAMI_DATA_DIR``; wins over the file's.
        flags: dotted key → value; ``None`` means not given.

    Raises:
        ConfigError: also for a data directory whose own file names another one: which of them would be meant?
    """
    named = named_file(named)
    file, environment = settings_file(named, data_dir), _environment()
    said_by_environment = data_dir is not None and Path(environment.get("TIRAMI_DATA_DIR", "")) == data_dir
    config = load_config(file, environment, {**flags, "data_dir": None if said_by_environment else data_dir})
    if named is None and config.origin("data_dir") == "file":
        raise ConfigError(f"{file} lies in a data directory and names another: remove its data_dir", param="data_dir")
    return config


def settings_file(named: Path | None, data_dir: Path | None) -> Path | None:
    """The file that counts, ``None`` for none."""
    own = data_directory(data_dir) / FILE_NAME
    return named_file(named) or (own if own.exists() else None)


def named_file(named: Path | None) -> Path | None:
    """The file on the command line, else in ``TIRAMI_CONFIG``: also of commands that have no option for it."""
    variable = os.environ.get("TIRAMI_CONFIG", "").strip()
    return named or (Path(variable) if variable else None)


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """What to say of variables that were meant as settings and are none: which one was meant, for each."""
    meant: dict[str, list[str]] = {name: [environment_variable(key)] for name, key in OFTEN.items()}
    for key in KEYS:
        meant.setdefault(key.rpartition(".")[2], []).append(environment_variable(key))
    said = []
    for variable, text in environ.items():
        right = meant.get(variable.removeprefix(PREFIX).lower(), [])
        wrong = variable.startswith(PREFIX) and right and variable not in right
        if wrong and text.strip() and not is_service_link(variable, text):
            said.append(f"{variable} is no setting and counts for nothing: did you mean {' or '.join(right)}?")
    return said


def _environment() -> Mapping[str, str]:
    """An empty value counts as absent."""
    return {name: value for name, value in os.environ.items() if value.strip()}
