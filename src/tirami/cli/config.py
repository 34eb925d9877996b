"""``tirami config``: what the settings are, where each came from, and whether a file is right."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.cli.options import DataDir, Json
from tirami.cli.settings import ConfigFile, settings, settings_file
from tirami.cli.terminal import ExitCode, Terminal, fields
from tirami.core.config import KEYS, Config, default_models_dir, environment_variable, is_secret, problems

commands = typer.Typer(no_args_is_help=True, help="Settings and where they come from.")
MASK = "(set, not shown)"
Changed = Annotated[bool, typer.Option("--changed", help="Only what is not a default.")]


@commands.command()
def show(
    changed: Changed = False, config_file: ConfigFile = None, data_dir: DataDir = None, json_output: Json = False
) -> None:
    """Every setting a node started here would have, and where it comes from."""
    config, file = settings(config_file, data_dir, {}), settings_file(config_file, data_dir)
    rows = [
        {"key": key, "value": _shown(config, key), "origin": config.origin(key), "from": _source(config, key, file)}
        for key in KEYS
        if not changed or config.origin(key) != "default"
    ]
    Terminal(json_output).show(rows, lambda console: _table(console, rows))


@commands.command()
def path(config_file: ConfigFile = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Where the files of a node started here lie."""
    config, file = settings(config_file, data_dir, {}), settings_file(config_file, data_dir)
    own = config.data_dir / "config.toml"
    facts = {
        "config_file": str(file or own),
        "config_file_exists": file is not None,
        "data_dir": str(config.data_dir),
        "node_key": str(config.data_dir / "node.key"),
        "admin_token": str(config.data_dir / "admin.token"),
        "journal": config.journal.file or str(config.data_dir / "journal.db"),
        "models_dir": config.infer.models_dir or str(default_models_dir()),
        "log": config.log.file or None,
    }
    shown = {
        "Settings": f"{facts['config_file']}{'' if file else '  (none there)'}",
        "Data dir": facts["data_dir"],
        "Node key": facts["node_key"],
        "Admin token": facts["admin_token"],
        "Journal": facts["journal"],
        "Models": facts["models_dir"],
        "Log": facts["log"] or "standard error; node.log in the data directory from a terminal",
    }
    Terminal(json_output).show(facts, lambda console: fields(console, "", shown))


@commands.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML settings.")], json_output: Json = False
) -> None:
    """Judge a file of settings without starting anything; every problem is named, exit code 1 for any."""
    from tirami.cli.host import unsound  # parses addresses as a node does: only who judges a file imports it

    found = problems(file, unsound)
    facts = {"file": str(file), "ok": not found, "problems": [{"key": e.param, "message": e.message} for e in found]}
    said = "".join(f"{error.message}\n" for error in found) or f"{file} is right\n"
    Terminal(json_output).show(facts, lambda console: console.print(said, markup=False, end=""))
    if found:
        raise typer.Exit(ExitCode.ERROR)


def _shown(config: Config, key: str) -> object:
    """The value for eyes and logs: secrets masked, also one inside a URL."""
    value = config.value(key)
    if is_secret(key):
        return MASK if value else ""
    if isinstance(value, str) and "@" in value and "//" in value:
        parts = urlsplit(value)
        return parts._replace(netloc=f"{MASK}@{parts.netloc.rpartition('@')[2]}").geturl()
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _source(config: Config, key: str, file: Path | None) -> str | None:
    """The variable or the file a value stands in."""
    return {"environment": environment_variable(key), "file": str(file)}.get(config.origin(key))


def _table(console: Console, rows: list[dict[str, object]]) -> None:
    table = Table("Setting", "Value", "From")
    for row in rows:
        origin = f"{row['origin']} {row['from']}" if row["from"] else str(row["origin"])
        value = row["value"]
        text = (
            ", ".join(map(str, value))
            if isinstance(value, list)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )
        table.add_row(str(row["key"]), escape(text), escape(origin))
    console.print(table if rows else "Every setting is a default.")
