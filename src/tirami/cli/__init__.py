"""The command line."""

import sys

import typer

from tirami.cli.options import JSON_KEY
from tirami.cli.receipt import verify
from tirami.cli.start import node, start
from tirami.cli.terminal import ExitCode, Terminal
from tirami.cli.wallet import commands as wallet
from tirami.core.errors import TiramiError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(start)
app.command()(node)
app.command()(verify)
app.add_typer(wallet, name="wallet")


def main() -> None:
    """Run a command; every error of ours is one line and an exit code."""
    try:
        app()
    except TiramiError as error:
        sys.exit(Terminal("--json" in sys.argv).fail(error))


__all__ = ["JSON_KEY", "ExitCode", "app", "main"]
