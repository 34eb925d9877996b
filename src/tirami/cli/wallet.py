"""``tirami wallet``: the identity that holds the money."""

from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.options import DataDir, Json
from tirami.cli.target import data_directory
from tirami.cli.terminal import Terminal
from tirami.core.keyfile import load_or_create_node_key

commands = typer.Typer(no_args_is_help=True, help="The key of this node.")
KeyPath = Annotated[Path | None, typer.Option("--key-path", help="Key file.  [DATA_DIR/node.key]")]


@commands.callback()
def wallet() -> None:
    """The key of this node."""


@commands.command()
def identity(key_path: KeyPath = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Show who this node is, making its key when there is none. Never shows the secret."""
    path = key_path or data_directory(data_dir) / "node.key"
    key, created = load_or_create_node_key(path)
    facts = {
        "wallet_file": str(path),
        "status": "created" if created else "loaded",
        "node_id": key.public_key.hex(),
        "file_permissions": f"{path.stat().st_mode & 0o7777:04o}",
    }
    titles = ("Wallet file", "Status", "Node ID (Ed25519)", "File permissions")
    lines = [f"{title + ':':<19} {value}" for title, value in zip(titles, facts.values(), strict=True)]
    terminal = Terminal(json_output)
    terminal.show(facts, lambda console: console.print("\n".join(lines), markup=False))
