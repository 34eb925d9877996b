"""The file a node is backed up to: a tar archive, sealed under a passphrase unless its owner says otherwise.

``manifest.json`` comes first and names size and SHA-256 of every other member. Member names are fixed, so nothing in an
archive ever names a path.
"""

import os
import secrets
import shutil
import tarfile
from collections.abc import Mapping
from hashlib import file_digest, sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import msgspec

from tirami.core.errors import BackupError
from tirami.core.keyfile import NEXT_KEY, NODE_KEY, SEAL_KEY
from tirami.core.sealedstream import MAGIC, OpeningReader, SealingWriter
from tirami.node.home import NETWORK

FORMAT: Final = "tirami/1/backup"
JOURNAL: Final = "journal.db"
SECRETS = (NODE_KEY, SEAL_KEY, NEXT_KEY, "admin.token", "config.toml")
REQUIRED = frozenset({NODE_KEY, JOURNAL, NETWORK})
MEMBERS = frozenset({*SECRETS, JOURNAL, NETWORK})
_MANIFEST = "manifest.json"
_MAX_MANIFEST = 1 << 16
_PIECE = 1 << 20


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds; ``node`` is the key of the node it is, ``created_ms`` when it was made."""

    format: str
    node: str
    created_ms: int
    files: dict[str, Member]


def write_archive(
    target: Path, files: Mapping[str, Path], node: str, now_ms: int, passphrase: str | None, *, replace: bool = False
) -> Manifest:
    """Write ``target`` (0600), complete or not at all.

    Args:
        files: member name → where it is now.
        passphrase: ``None`` writes a plain tar file.
        replace: whether an existing file may be overwritten.

    Raises:
        BackupError: the target exists, the passphrase is too short, or a file cannot be read or written.
    """
    if target.exists() and not replace:
        raise BackupError(f"{target} exists; --force overwrites it", path=str(target))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        contents = {name: Member(path.stat().st_size, _sha256(path)) for name, path in files.items()}
        manifest = Manifest(FORMAT, node, now_ms, contents)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _write(file, manifest, files, passphrase)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except OSError as error:
        raise BackupError(f"{error.filename or target} fails: {error.strerror}", path=str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _write(file: BinaryIO, manifest: Manifest, files: Mapping[str, Path], passphrase: str | None) -> None:
    sealing = None if passphrase is None else SealingWriter(file, passphrase)
    with tarfile.open(fileobj=cast(IO[bytes], sealing or file), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        told = msgspec.json.format(msgspec.json.encode(manifest))
        tar.addfile(_entry(_MANIFEST, len(told), manifest), BytesIO(told))
        for name, path in files.items():
            with path.open("rb") as content:
                tar.addfile(_entry(name, manifest.files[name].size, manifest), content)
    if sealing is not None:
        sealing.close()


def _entry(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, manifest.created_ms // 1000
    return entry


def is_sealed(archive: Path) -> bool:
    """Whether a passphrase is needed. Raises ``BackupError``."""
    try:
        with archive.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise BackupError(f"{archive} cannot be read: {error.strerror}", path=str(archive)) from error


def unpack_archive(archive: Path, passphrase: str | None, into: Path) -> Manifest:
    """Write the members into the empty directory ``into``, each 0600 and exactly what the manifest says.

    Raises ``BackupError`` for anything else.
    """
    try:
        with archive.open("rb") as file:
            reader = OpeningReader(file, passphrase or "") if is_sealed(archive) else file
            with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r|") as tar:
                manifest = _manifest(tar)
                _check_space(manifest, into)
                _unpack(tar, manifest, into)
            while reader.read(_PIECE):  # the archive ends where its writer ended it
                pass
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{archive} is no archive of a node, or damaged: {error}", path=str(archive)) from error
    except OSError as error:
        raise BackupError(f"{error.filename or archive} fails: {error.strerror}", path=str(archive)) from error
    return manifest


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.name == _MANIFEST and first.isreg() else None
    if first is None or content is None or first.size > _MAX_MANIFEST:
        raise BackupError("the archive does not begin with its manifest")
    try:
        manifest = msgspec.json.decode(content.read(_MAX_MANIFEST), type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"the archive's manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupError(f"the archive has format {manifest.format!r}, this program reads {FORMAT!r}")
    if not REQUIRED <= set(manifest.files) <= MEMBERS:
        raise BackupError("the archive does not hold what a node consists of")
    return manifest


def _check_space(manifest: Manifest, into: Path) -> None:
    needed = 2 * sum(member.size for member in manifest.files.values())
    if needed > shutil.disk_usage(into).free:
        raise BackupError(f"{into} has less free space than the {needed >> 20} MiB this takes")


def _unpack(tar: tarfile.TarFile, manifest: Manifest, into: Path) -> None:
    missing = dict(manifest.files)
    while (entry := tar.next()) is not None:
        member = missing.pop(entry.name, None)
        content = tar.extractfile(entry) if member is not None and entry.isreg() else None
        if member is None or content is None or entry.size != member.size:
            raise BackupError(f"the archive holds {entry.name!r}, which its manifest does not say")
        if _copy(content, into / entry.name) != member.sha256:
            raise BackupError(f"{entry.name} in the archive is not what its manifest says", member=entry.name)
    if missing:
        raise BackupError(f"the archive lacks {', '.join(sorted(missing))}")


def _copy(content: IO[Any], path: Path) -> str:
    """Write a new file, durable, 0600; its SHA-256."""
    hashed = sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):
            hashed.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(descriptor)
    return hashed.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
