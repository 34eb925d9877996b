"""The settings of the node a command starts, and the file they are read from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.target import data_directory
from tirami.core.config import Config, load_config
from tirami.core.errors import ConfigError

FILE_NAME = "config.toml"

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
    file, environment = settings_file(named, data_dir), _environment()
    said_by_environment = data_dir is not None and Path(environment.get("TIRAMI_DATA_DIR", "")) == data_dir
    config = load_config(file, environment, {**flags, "data_dir": None if said_by_environment else data_dir})
    if named is None and config.origin("data_dir") == "file":
        raise ConfigError(f"{file} lies in a data directory and names another: remove its data_dir", param="data_dir")
    return config


def settings_file(named: Path | None, data_dir: Path | None) -> Path | None:
    """The file that counts, ``None`` for none."""
    own = data_directory(data_dir) / FILE_NAME
    return named or (own if own.exists() else None)


def _environment() -> Mapping[str, str]:
    """An empty value counts as absent."""
    return {name: value for name, value in os.environ.items() if value.strip()}
