"""``tirami network``: the file that says who may issue and witness on a network."""

from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.options import DataDir, Json
from tirami.cli.target import data_directory
from tirami.cli.terminal import Terminal, fields
from tirami.core.errors import InvalidField
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import parse_node_id
from tirami.proto import NetworkFile

commands = typer.Typer(no_args_is_help=True, help="Networks of your own.")


@commands.callback()
def everywhere() -> None:
    """Networks of your own."""


@commands.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where to write it; never over a file.")],
    name: Annotated[str, typer.Option("--id", help="Its name, a-z, 0-9 and -; stands in every record.")] = "own",
    issuer: Annotated[
        list[str] | None, typer.Option("--issuer", metavar="KEY", help="Another node that may give credit; repeat.")
    ] = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Write a network file in which this node gives newcomers their first credit. All nodes use the same file."""
    own, _ = load_or_create_node_key(data_directory(data_dir) / "node.key")
    others = [parse_node_id(key) for key in issuer or ()]
    network = NetworkFile.parse(NetworkFile.of(name, dict.fromkeys([own.public_key, *others])).to_bytes())
    try:
        with file.open("xb") as written:
            written.write(network.to_bytes())
    except FileExistsError as error:
        message = f"{file} is there already: a network whose file changes is another one"
        raise InvalidField(message, param="file") from error
    facts = {"file": str(file.absolute()), "id": network.id, "hash": network.hash.hex()}
    shown = {
        "Network": network.id,
        "File": facts["file"],
        "Hash": facts["hash"],
        "Issuers": ", ".join(entry.key[:16] for entry in network.issuers),
        "Next": f"start every node of it with --network {file}; bring others with `tirami invite`",
    }
    Terminal(json_output).show(facts, lambda console: fields(console, "", shown))
