"""A node into an archive, and an archive into a node.

A restore is not the node that was: what it signed after the backup is unknown to it. It therefore begins a new
incarnation and a new log (PROTOCOL B9), durable before it takes its place, so that a restored node starts without
further word and never contradicts what it signed before.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tirami.core.clock import Clock
from tirami.core.config import Config, load_config
from tirami.core.errors import BackupError, RestoreRefused
from tirami.core.keyfile import NodeKeys
from tirami.core.keys import journal_key
from tirami.core.keystore import Keystore
from tirami.core.secretfile import read_secret
from tirami.ledger import Journal
from tirami.node.archive import JOURNAL, SECRETS, Manifest, unpack_archive, write_archive
from tirami.node.home import NETWORK, RESTORING, Home, journal_path
from tirami.node.parts import network_of
from tirami.node.payers import Payers
from tirami.node.staging import PREFIX, lay_down
from tirami.node.takeover import open_ledger
from tirami.proto import NetworkFile

_STAGED = ".restore"
_UNHARMED = frozenset({"lock", "node.log", _STAGED, RESTORING})
"""What may lie in a directory that counts as empty."""


@contextmanager
def offline_copy(config: Config) -> Iterator[Path]:
    """The copies a running node would lay down, of one that does not run; gone afterwards.

    Every entry is re-hashed. Raises ``StartError``: whatever would keep this node from starting.
    """
    if not (config.data_dir / "node.key").exists():
        raise BackupError(f"no node lives in {config.data_dir}: there is no node.key", param="data_dir")
    if not journal_path(config).exists():
        raise BackupError(f"there is no journal at {journal_path(config)}: --ledger names it", param="journal.file")
    home = Home.open(config.data_dir)
    directory = config.data_dir / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        keys = NodeKeys.of(home.path)
        journal = Journal.open(journal_path(config), journal_key(keys.seal))
        try:
            for _ in journal.replay():
                pass
            lay_down(journal.copy_to, network_of(config, keys.node.public_key).to_bytes(), directory)
        finally:
            journal.abandon()
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        home.close()


def back_up(
    data_dir: Path, copies: Path, target: Path, passphrase: str | None, now_ms: int, *, overwrite: bool
) -> Manifest:
    """Write the archive of the node in ``data_dir`` from copies of its journal. Raises ``StartError``."""
    files = {name: data_dir / name for name in SECRETS if (data_dir / name).exists()}
    for name, path in files.items():
        if name != "config.toml":
            read_secret(path)
    node = NodeKeys.of(data_dir).node
    files |= {name: copies / name for name in (NETWORK, JOURNAL)}
    return write_archive(target, files, node.public_key.hex(), now_ms, passphrase, replace=overwrite)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        node: key of the node that is back.
        created_ms: when its backup was made.
        entries: journal entries, each re-hashed.
        incarnation, log_id: what it begins anew with.
        replaced: where the files went that lay there before; ``None`` when there were none.
        network_file: the network to start with, when it is not the built-in one.
        locked_keys: hosted accounts whose key does not open under the settings' ``keystore.passphrase``.
    """

    node: str
    created_ms: int
    entries: int
    incarnation: int
    log_id: str
    replaced: Path | None
    network_file: Path | None
    locked_keys: int


async def prove(archive: Path, passphrase: str | None, config: Config, clock: Clock) -> Restored:
    """Whether a restore would work, tried in a temporary directory: seal, hashes, every entry of the journal under the
    node's key, the fold, the log against the last head the node signed; and which hosted keys ``config`` opens.

    Raises as :func:`restore` for what is in the archive.
    """
    with TemporaryDirectory(prefix="tirami-prove-") as directory:
        return await _begin_anew(Path(directory), unpack_archive(archive, passphrase, Path(directory)), config, clock)


async def restore(archive: Path, passphrase: str | None, config: Config, clock: Clock, *, force: bool) -> Restored:
    """Put the node of an archive into ``config.data_dir``.

    Nothing that lies there is touched before the archive has proved whole, as in :func:`prove`. What is replaced is
    moved aside, never removed.

    Raises:
        DataDirLocked: a node runs there.
        RestoreRefused: something lies there and ``force`` is off, or the clock stands before the backup.
        BackupError: the archive is damaged, or the passphrase is not its.
        StartError: what is in the archive would not start.
    """
    home = Home.open(config.data_dir, restoring=True)
    staged = home.path / _STAGED
    try:
        _check_empty(home.path, journal_path(config), force)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        begun = await _begin_anew(staged, unpack_archive(archive, passphrase, staged), config, clock)
        journal = _destination(config, staged)
        replaced = _take_place(home, journal, _check_empty(home.path, journal, force))
        network_file = home.path / NETWORK if (home.path / NETWORK).exists() else None
        return replace(begun, replaced=replaced, network_file=network_file)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        home.close()


def _check_empty(home: Path, journal: Path, force: bool) -> list[Path]:
    """What lies where the node is to go. Raises ``RestoreRefused`` when there is something and ``force`` is off."""
    here = [path for path in home.iterdir() if path.name not in _UNHARMED]
    elsewhere = [path for path in _journal_files(journal) if path.exists() and path.parent != home]
    occupied = sorted(here) + elsewhere
    if occupied and not force:
        raise RestoreRefused(
            f"{home} is not empty ({occupied[0].name} lies there); --force moves what is in the way aside",
            param="data_dir",
        )
    return occupied


def _destination(config: Config, staged: Path) -> Path:
    """Where the restored node will look for its journal: today's settings, else those in the archive."""
    if not config.journal.file:
        return journal_path(replace(_archived(staged), data_dir=config.data_dir))
    return journal_path(config)


def _archived(staged: Path) -> Config:
    """The settings in the archive; the defaults when it holds none."""
    file = staged / "config.toml"
    return load_config(file if file.exists() else None, {}, {})


def _journal_files(journal: Path) -> list[Path]:
    return [journal, journal.with_name(f"{journal.name}-wal"), journal.with_name(f"{journal.name}-shm"),
            journal.with_suffix(".tip"), journal.with_suffix(".snapshot")]  # fmt: skip


async def _begin_anew(staged: Path, manifest: Manifest, config: Config, clock: Clock) -> Restored:
    """Prove the journal and begin its new incarnation, in the staged files."""
    keys = NodeKeys.of(staged)
    if keys.created or keys.node.public_key.hex() != manifest.node:
        raise BackupError("the key in the archive is not the one its manifest names")
    network = NetworkFile.load(staged / NETWORK)
    ledger = open_ledger(staged / JOURNAL, keys, network, clock, accept_rollback=True)
    try:
        keystore = Keystore(keys.seal, config.keystore.passphrase or _archived(staged).keystore.passphrase)
        locked = len((await asyncio.to_thread(Payers(ledger, keystore, keys).tried)).locked)
        written = max(manifest.created_ms, ledger.now())  # read first: the clock goes on between two readings
        if clock.now_ms() < written:  # two restores would begin the same incarnation
            raise RestoreRefused("this machine's clock stands before the time of the backup: set it first")
        entries = ledger.seq
        await ledger.start(os.urandom)
        started = ledger.state.settings.started
        assert started is not None
        log_id = started.log_id.hex()
        begun = Restored(manifest.node, manifest.created_ms, entries, started.incarnation, log_id, None, None, locked)
    finally:
        await ledger.close()
    if network == NetworkFile.regtest(keys.node.public_key):
        (staged / NETWORK).unlink()
    return begun


def _take_place(owner: Home, journal: Path, occupied: list[Path]) -> Path | None:
    """Move aside what is there and in what was staged. An interruption leaves a directory that refuses to start."""
    home = owner.path
    mark = home / RESTORING
    mark.touch(mode=0o600)
    _sync(home)
    replaced = None
    mine = {*SECRETS, NETWORK, "node.json"}
    going = [path for path in occupied if path.name in mine or path in _journal_files(journal)]
    if going:
        replaced = home / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        replaced.mkdir(mode=0o700)
        for path in going:
            shutil.move(path, replaced / path.name)
    journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = home / _STAGED
    moves = {staged / JOURNAL: journal, (staged / JOURNAL).with_suffix(".tip"): journal.with_suffix(".tip")}
    moves |= {staged / name: home / name for name in (*SECRETS, NETWORK) if (staged / name).exists()}
    for source, target in moves.items():
        shutil.move(source, target)
    owner.note_journal(journal)
    for directory in {home, journal.parent}:
        _sync(directory)
    mark.unlink()
    _sync(home)
    return replaced


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
