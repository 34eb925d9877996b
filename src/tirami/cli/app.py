"""The program ``tirami``: all commands, and how they end."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from pydantic import ValidationError

from tirami.cli import (
    agent,
    approvals,
    config,
    invite,
    key,
    log,
    mesh,
    models,
    network,
    personal,
    safety,
    su,
    token,
    wallet,
)
from tirami.cli.backup import backup, restore
from tirami.cli.chat import chat
from tirami.cli.completion import completion
from tirami.cli.demo import demo
from tirami.cli.earnings import earnings
from tirami.cli.legal import legal
from tirami.cli.metrics import metrics
from tirami.cli.options import Json
from tirami.cli.peers import peers
from tirami.cli.receipt import verify
from tirami.cli.seed import seed
from tirami.cli.settle import settle
from tirami.cli.start import node, start
from tirami.cli.status import status
from tirami.cli.target import NoNode
from tirami.cli.terminal import Terminal
from tirami.cli.top import top
from tirami.cli.trades import receipt, trades
from tirami.cli.worker import worker
from tirami.core.errors import InvalidField, TiramiError

app = typer.Typer(
    name="tirami",
    help="Distributed LLM inference where compute is money.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    start, node, seed, worker, chat, status, peers, mesh.pause, mesh.resume, invite.join, earnings, top, metrics,
    trades, receipt, verify, settle, legal, backup, restore, completion, demo,
):  # fmt: skip
    app.command()(command)
for own in (personal.status, personal.summary, personal.task, personal.chat, personal.preferences):
    agent.commands.command()(own)
app.add_typer(agent.commands, name="agent")
app.add_typer(wallet.commands, name="wallet")
app.add_typer(key.commands, name="key")
app.add_typer(token.commands, name="token")
app.add_typer(safety.commands, name="safety")
app.add_typer(su.commands, name="su")
app.add_typer(approvals.commands, name="approvals")
app.add_typer(log.commands, name="log")
app.add_typer(config.commands, name="config")
app.add_typer(models.commands, name="models")
app.add_typer(mesh.commands, name="mesh")
app.add_typer(invite.commands, name="invite")
app.add_typer(network.commands, name="network")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tirami {installed_version('tirami')}")
        raise typer.Exit


@app.callback()
def everywhere(
    ca: Annotated[
        Path | None,
        typer.Option("--ca", envvar="SSL_CERT_FILE", metavar="FILE", help="PEM file of the certificates to trust."),
    ] = None,
    number: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributed LLM inference where compute is money."""
    if ca is not None:
        os.environ["SSL_CERT_FILE"] = str(ca)  # where every client of this process looks


@app.command()
def version(json_output: Json = False) -> None:
    """Print the version."""
    number = installed_version("tirami")
    Terminal(json_output).show({"version": number}, lambda console: console.print(f"tirami {number}"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process: 0 done, 1 failed, 2 wrong usage, 3 not verified."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    terminal = Terminal("--json" in given)
    try:
        app(given, prog_name="tirami")
    except TiramiError as error:
        code = terminal.fail(error)
    except ValidationError as error:
        first = error.errors()[0]
        code = terminal.fail(InvalidField(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))
    except httpx2.TransportError as error:
        code = terminal.fail(NoNode(f"the node cannot be reached: {type(error).__name__}"))
    except UnicodeEncodeError:
        code = terminal.fail(InvalidField("an argument holds bytes that are no text"))
    except OSError as error:
        code = terminal.fail(TiramiError(f"{error.filename or 'the system'}: {error.strerror or error}"))
    sys.exit(code)
