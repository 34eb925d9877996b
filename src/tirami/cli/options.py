"""Options that more than one command takes, spelt once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="TIRAMI_DATA_DIR", help="Where keys and the journal lie.  [~/.tirami]"),
]
Url = Annotated[
    str | None, typer.Option("--url", help="Node to talk to: TIRAMI_URL, else the running node of the data directory.")
]
Token = Annotated[str | None, typer.Option("--token", help="Bearer token; TIRAMI_API_TOKEN if absent.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing.")]
