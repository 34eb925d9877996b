"""``tirami backup`` and ``tirami restore``: a node in one file, and back."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tirami.cli.options import DataDir, Json, Token
from tirami.cli.settings import ConfigFile, settings
from tirami.cli.target import connect, running_node
from tirami.cli.terminal import Terminal, fields
from tirami.core.errors import BackupError
from tirami.core.secretfile import read_secret

PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line; asked for if absent.")
]
Unencrypted = Annotated[
    bool, typer.Option("--unencrypted", help="Write keys and tokens so that whoever has the file has the node.")
]
JournalFile = Annotated[
    Path | None, typer.Option("--ledger", metavar="FILE", help="The journal.  [journal.db in the data directory]")
]
NetworkOption = Annotated[Path | None, typer.Option("--network", metavar="FILE", help="Network file of the node.")]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the archive.")],
    passphrase_file: PassphraseFile = None,
    unencrypted: Unencrypted = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    ledger: JournalFile = None,
    network: NetworkOption = None,
    config_file: ConfigFile = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Save keys, tokens, accounts and the whole journal of this machine's node, while it runs or while it does not."""
    if unencrypted and passphrase_file is not None:
        raise BackupError("--unencrypted and --passphrase-file exclude each other", param="passphrase")
    flags = {"journal.file": ledger, "network.file": network}
    config, terminal = settings(config_file, data_dir, flags), Terminal(json_output)
    if file.exists() and not force:
        raise BackupError(f"{file} exists; --force overwrites it", path=str(file))
    passphrase = None if unencrypted else _passphrase(passphrase_file, terminal, twice=True)
    from tirami.cli.host import archive_node  # a whole node: only who needs one imports it

    with _copies(config.data_dir, token) as copies:
        facts = archive_node(config, copies, file, passphrase, overwrite=force)
    shown = {
        "Written": f"{facts['file']}  ({int(str(facts['bytes'])) / 1e6:.1f} MB)",
        "Node": facts["node"],
        "Sealed": "with the passphrase; without it the file is worth nothing" if passphrase else "NO: guard the file",
    }
    terminal.show(facts, lambda console: fields(console, "", shown))


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive of `tirami backup`.")],
    passphrase_file: PassphraseFile = None,
    check: Annotated[bool, typer.Option("--check", help="Prove the archive; change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move aside what lies in the data directory.")] = False,
    ledger: JournalFile = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Bring a node back from its archive. It begins a new incarnation: what it did after the backup is not known."""
    config, terminal = settings(config_file, data_dir, {"journal.file": ledger}), Terminal(json_output)
    from tirami.cli.host import restore_node  # a whole node: only who needs one imports it

    done = restore_node(
        file, lambda: _passphrase(passphrase_file, terminal, twice=False), config, force=force, only_prove=check
    )
    facts = {
        "node": done.node,
        "data_dir": None if check else str(config.data_dir),
        "restored": not check,
        "created_ms": done.created_ms,
        "journal_entries": done.entries,
        "incarnation": done.incarnation,
        "log_id": done.log_id,
        "replaced": done.replaced and str(done.replaced),
        "network_file": done.network_file and str(done.network_file),
        "locked_keys": done.locked_keys,
    }
    shown = {
        "Proved" if check else "Restored": f"node {done.node}",
        "Made": f"{datetime.fromtimestamp(done.created_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC",
        "Journal": f"{done.entries} entries, every one re-hashed",
        **({} if check else {"Now in": str(config.data_dir)}),
        **({"Moved aside": str(done.replaced)} if done.replaced else {}),
        **({"Network": str(done.network_file)} if done.network_file else {}),
        **({"LOCKED": f"{done.locked_keys} hosted keys need another keystore.passphrase"} if done.locked_keys else {}),
    }
    terminal.show(facts, lambda console: fields(console, "", shown))


@contextmanager
def _copies(data_dir: Path, token: str | None) -> Iterator[Path | None]:
    """What the running node of the directory laid down, gone afterwards; ``None`` when none runs there."""
    announced = running_node(data_dir)
    if announced is None:
        yield None
        return
    with connect(announced.url, token, data_dir, admin=True) as client:
        reply = client.backup()
    name = reply.directory
    if Path(name).name != name or not name.startswith("backup-"):
        raise BackupError("the node named a directory that is none of its copies")
    try:
        yield data_dir / name
    finally:
        shutil.rmtree(data_dir / name, ignore_errors=True)


def _passphrase(file: Path | None, terminal: Terminal, *, twice: bool) -> str:
    """From the file, which nobody else may read, else from whoever sits at the terminal."""
    if file is not None:
        lines = read_secret(file).decode("utf-8", errors="replace").splitlines()
        return lines[0].strip() if lines else ""
    if not terminal.err.is_terminal:
        raise BackupError("nobody is here to ask for a passphrase: use --passphrase-file", param="passphrase")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True))
