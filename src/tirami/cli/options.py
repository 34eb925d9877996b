"""Options that more than one command takes, spelt once."""

from pathlib import Path
from typing import Annotated

import typer

JSON_KEY = "tirami.json"
"""Where the running command's ``--json`` is kept for whoever prints its error."""


def _remember(context: typer.Context, value: bool) -> bool:
    context.meta[JSON_KEY] = value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.", callback=_remember)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="TIRAMI_DATA_DIR", help="Where keys and the journal lie.  [~/.tirami]"),
]
Url = Annotated[
    str | None, typer.Option("--url", help="Node to talk to: TIRAMI_URL, else the running node of the data directory.")
]
Token = Annotated[str | None, typer.Option("--token", help="Bearer token; TIRAMI_API_TOKEN if absent.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Catalogue alias or path of a GGUF file.")]

DEFAULT_MODEL = "qwen2.5:0.5b"
