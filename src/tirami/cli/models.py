"""``tirami models``: what is installed, and fetching, loading and deleting it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import ModelQuery, ModelReport, ModelRequest, ModelsReply, RemovedModel
from tirami.cli.download import DownloadBar, Progress
from tirami.cli.options import DataDir, Json, Offline, Token, Url
from tirami.cli.settings import settings
from tirami.cli.target import connect, data_directory, names_a_node
from tirami.cli.terminal import Terminal
from tirami.core.errors import ModelLoadError
from tirami.sdk import Tirami

POLL_S = 0.3
DIGEST_SHOWN = 16

commands = typer.Typer(help="Models of this machine: list, pull, load, unload, rm.")
Name = Annotated[str, typer.Argument(help="Catalogue alias, or a name from the list.")]


class Shelf(Protocol):
    """Where models lie: a running node's, or this machine's cache."""

    def models(self) -> ModelsReply: ...

    def pull(self, name: str, progress: Progress) -> ModelReport:
        """Fetch and wait. Raises ``ModelNotFound``, ``ModelLoadError``, ``ModelDigestMismatch``."""

    def remove(self, name: str) -> RemovedModel: ...


class NodeShelf:
    """The models of a running node."""

    def __init__(self, client: Tirami) -> None:
        self._client = client

    def models(self) -> ModelsReply:
        return self._client.installed_models()

    def pull(self, name: str, progress: Progress) -> ModelReport:
        begun = self._client.change_model(ModelRequest(model=name, action="pull"))
        return self._settled(begun, "fetching", "available", progress)

    def load(self, name: str) -> ModelReport:
        begun = self._client.change_model(ModelRequest(model=name, action="load"))
        return self._settled(begun, "loading", "installed", None)

    def unload(self, name: str) -> ModelReport:
        return self._client.change_model(ModelRequest(model=name, action="unload"))

    def remove(self, name: str) -> RemovedModel:
        return self._client.remove_model(ModelQuery(model=name))

    def _settled(self, report: ModelReport, way: str, back: str, progress: Progress | None) -> ModelReport:
        """Wait while a model is on its ``way``. Raises ``ModelLoadError`` when it is ``back`` where it was."""
        while report.state == way:
            if progress is not None and report.fetch is not None:
                progress(report.fetch.bytes_done, report.fetch.bytes_total)
            time.sleep(POLL_S)
            report = next(entry for entry in self.models().models if entry.model == report.model)
        if report.state == back:
            raise ModelLoadError(report.problem or f"{report.model} is {back} again: somebody else undid this")
        return report


@commands.callback(invoke_without_command=True)
def models(
    context: typer.Context, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False
) -> None:
    if context.invoked_subcommand is None:
        list_models(url, token, data_dir, json_output)


@commands.command("list")
def list_models(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Models of the catalogue and of this machine: state, size, digest."""
    with _shelf(url, token, data_dir, offline=True) as shelf:
        reply = shelf.models()
    Terminal(json_output).show(reply.model_dump(), lambda console: _table(console, reply))


@commands.command()
def pull(
    name: Name,
    offline: Offline = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Fetch a model of the catalogue; a broken download goes on where it ended."""
    terminal = Terminal(json_output)
    with DownloadBar(terminal.err, name) as bar, _shelf(url, token, data_dir, offline=offline) as shelf:
        report = shelf.pull(name, bar)
    terminal.show(report.model_dump(), lambda console: console.print(_line(report), markup=False))


@commands.command()
def rm(name: Name, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Delete a model's files from the cache, unfinished ones too."""
    with _shelf(url, token, data_dir, offline=True) as shelf:
        removed = shelf.remove(name)
    said = f"{removed.model} removed: {removed.freed_bytes:,} bytes are free"
    Terminal(json_output).show(removed.model_dump(), lambda console: console.print(said, markup=False))


@commands.command()
def load(name: Name, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Bring an installed model into the memory of the running node."""
    with connect(url, token, data_dir, admin=True) as client:
        report = NodeShelf(client).load(name)
    Terminal(json_output).show(report.model_dump(), lambda console: console.print(_line(report), markup=False))


@commands.command()
def unload(
    name: Name, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False
) -> None:
    """Take a model that nobody uses out of the memory of the running node."""
    with connect(url, token, data_dir, admin=True) as client:
        report = NodeShelf(client).unload(name)
    Terminal(json_output).show(report.model_dump(), lambda console: console.print(_line(report), markup=False))


@contextmanager
def _shelf(url: str | None, token: str | None, data_dir: Path | None, *, offline: bool) -> Iterator[Shelf]:
    """The named or running node's; else a private node's on the same data directory, with no port and no engine."""
    directory = data_directory(data_dir)
    if names_a_node(url, directory):
        with connect(url, token, data_dir, admin=True) as client:
            yield NodeShelf(client)
        return
    from tirami.cli.host import PrivateNode  # a whole node: only who runs one imports it

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = {
        "infer.model": "",
        "infer.models": "",
        "infer.upstream_url": "",
        "infer.offline": offline or None,
        "log.file": str(directory / "node.log"),
        "mesh.enabled": False,
    }
    config = settings(None, directory, flags)
    with PrivateNode.open(config, None) as private:
        yield private


def _line(report: ModelReport) -> str:
    return f"{report.model} is {report.state}: {_size(report.size_bytes)}, sha256 {report.digest or 'not known'}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"


def _table(console: Console, reply: ModelsReply) -> None:
    table = Table("Model", "State", "Size", "Memory", "SHA-256")
    for entry in reply.models:
        state: str = entry.state
        if entry.fetch is not None and entry.fetch.bytes_total:
            state = f"{state} {100 * entry.fetch.bytes_done // entry.fetch.bytes_total} %"
        size = (
            _size(entry.size_bytes) if entry.state not in ("available", "fetching") else f"~{_size(entry.size_bytes)}"
        )
        memory = _size(entry.memory_bytes) if entry.memory_bytes else ""
        table.add_row(escape(entry.model), state, size, memory, (entry.digest or "")[:DIGEST_SHOWN])
    console.print(table)
    for entry in reply.models:
        if entry.problem is not None:
            console.print(f"{entry.model}: {entry.problem}", markup=False)
