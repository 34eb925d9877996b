"""Snapshots: the folded state at one position of the journal, so that a start folds only what came after.

A snapshot saves decoding and folding, never checking: every start re-hashes the whole journal and takes a snapshot only
if the journal passes through its position with its chain hash. It is sealed under the journal key and belongs to one
network file and to one build of this program: another build folds everything again, so no change of a rule can be
carried around by an old state.

The state is written with :mod:`pickle`: whole, so that no field can be forgotten, and with every object once, so that
two names of one object stay two names of one object. A pickle is a program; this one is read after its seal has been
verified, by a reader that knows this package's classes and a few containers. Columns are kept apart: those that only
grow are copied piece by piece in a thread while the node goes on.
"""

import hmac
import io
import os
import pickle
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import structlog

from tirami.ledger.columns import ByteColumn, Column, Table
from tirami.ledger.records import EntrySource
from tirami.ledger.state import State
from tirami.ledger.tip import sync_directory
from tirami.proto import NetworkFile

_log = structlog.get_logger()
_MAGIC = b"TIRAMIS1"
_TAG = b"tirami/1/snapshot"
_LENGTH = struct.Struct(">I")
_SEAL = 32
_CHUNK = 1 << 20
_PACKAGES = ("tirami.core", "tirami.proto", "tirami.ledger")
_OWN = tuple(f"{package}." for package in _PACKAGES)
_RULES = (*_PACKAGES, "tirami.verify")
"""What the fold runs; a state has classes of the first three only."""
_CONTAINERS = {("collections", "deque"), ("collections", "Counter"), ("collections", "defaultdict")}

Packed = Column | ByteColumn | Table
_KINDS: dict[str, Callable[[], Packed]] = {
    "bytes": ByteColumn,
    "column I": lambda: Column("I"),
    "column Q": lambda: Column("Q"),
    "table I": lambda: Table("I"),
    "table Q": lambda: Table("Q"),
}


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """What lies in the file, and where in which journal it was taken."""

    build: bytes
    network: bytes
    seq: int
    chain: bytes
    size: int
    columns: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A state as it stood at one position: pickled, with columns that have since only grown."""

    header: _Header
    body: bytes
    columns: list["Packed | array[int]"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state read back: fold what comes after ``seq``, if the journal has ``chain`` there."""

    seq: int
    chain: bytes
    state: State


@lru_cache(maxsize=1)
def build() -> bytes:
    """Hash of everything that gives a snapshot its meaning: the sources of the fold and the interpreter."""
    hashing = sha256(f"{sys.version} {sys.byteorder} {msgspec.__version__}".encode())
    for package in _RULES:
        for source in sorted(files(package).iterdir(), key=lambda source: source.name):
            if source.name.endswith(".py"):
                hashing.update(source.name.encode() + b"\0" + source.read_bytes())
    return hashing.digest()


@lru_cache(maxsize=1)
def _enumerations() -> tuple[type[Enum], ...]:
    """Ours. Before Python 3.11.4 they pickle themselves as a ``getattr``, which is no part of a state."""
    found: list[type[Enum]] = []
    waiting: list[type[Enum]] = [Enum]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        waiting += kinds
        found += [kind for kind in kinds if kind.__module__.startswith(_OWN)]
    return tuple(found)


def taken(state: State, source: EntrySource, seq: int, chain: bytes) -> Picture:
    """A picture of the state as it stands now. Quick: what only grows is not copied, only its length is noted."""
    columns: list[Packed | array[int]] = []
    kinds: list[tuple[str, int]] = []

    def packed(column: Packed) -> tuple[Callable[..., Any], tuple[int]]:
        if isinstance(column, ByteColumn):
            kinds.append(("bytes", len(column)))
            columns.append(column)
        else:
            grows = isinstance(column, Column)
            kinds.append((f"{'column' if grows else 'table'} {column.typecode}", len(column) * column.itemsize))
            columns.append(column if grows else column[:])
        return _column, (len(columns) - 1,)

    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=5)
    pickler.dispatch_table = {
        Column: packed,
        ByteColumn: packed,
        Table: packed,
        NetworkFile: lambda _: (_network, ()),
        type(source): lambda _: (_source, ()),
        **dict.fromkeys(_enumerations(), lambda member: (type(member), (member.value,))),
    }
    pickler.dump(state)
    body = stream.getvalue()
    return Picture(_Header(build(), state.network.hash, seq, chain, len(body), kinds), body, columns)


class SnapshotFile:
    """The newest snapshot of one journal, beside it."""

    def __init__(self, path: Path, key: bytes, network: NetworkFile) -> None:
        self._path = path
        self._key = key
        self._network = network

    def write(self, picture: Picture) -> None:
        """Replace the snapshot, durably, as a whole or not at all. For a thread of its own. Raises ``OSError``."""
        temporary = self._path.with_suffix(".snapshot.tmp")
        temporary.unlink(missing_ok=True)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                self._write(file, picture)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(self._path.parent)

    def read(self, source: EntrySource) -> Snapshot | None:
        """The snapshot, or ``None`` when there is none this node can use; a damaged one is reported in the log."""
        try:
            with self._path.open("rb") as file:
                return self._read(file, source)
        except FileNotFoundError:
            return None
        except _NotUsable as error:
            _log.warning("snapshot_not_used", reason=str(error))
        except Exception as error:  # sealed by this node and build, and yet: the journal is what counts
            _log.warning("snapshot_not_used", reason=f"it cannot be read: {error}")
        return None

    def _write(self, file: BinaryIO, picture: Picture) -> None:
        hashing = sha256()

        def put(data: Any) -> None:
            file.write(data)
            hashing.update(data)

        header = msgspec.msgpack.encode(picture.header)
        put(_MAGIC + _LENGTH.pack(len(header)) + header)
        put(picture.body)
        for (_, size), column in zip(picture.header.columns, picture.columns, strict=True):
            items = 1 if isinstance(column, bytearray) else column.itemsize
            for start in range(0, size // items, _CHUNK // items):
                put(column[start : min(start + _CHUNK // items, size // items)])
        file.write(self._seal(hashing.digest()))

    def _read(self, file: BinaryIO, source: EntrySource) -> Snapshot:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(_MAGIC) + _LENGTH.size)
        length = _LENGTH.unpack(start[len(_MAGIC) :])[0] if start[: len(_MAGIC)] == _MAGIC else size
        if length > size:
            raise _NotUsable("it is damaged")
        encoded = file.read(length)
        header = msgspec.msgpack.decode(encoded, type=_Header)
        if len(start) + length + header.size + sum(size for _, size in header.columns) + _SEAL != size:
            raise _NotUsable("it is damaged")
        hashing = sha256(start + encoded)
        body = file.read(header.size)
        hashing.update(body)
        columns = [_filled(_KINDS[kind](), file, size, hashing) for kind, size in header.columns]
        if not hmac.compare_digest(file.read(_SEAL), self._seal(hashing.digest())):
            raise _NotUsable("it is damaged, or another node's")
        if header.build != build() or header.network != self._network.hash:
            raise _NotUsable("it was taken by another build or under another network file")
        state = _Reader(body, columns, self._network, source).load()
        if not isinstance(state, State):
            raise _NotUsable("it holds no state")
        return Snapshot(header.seq, header.chain, state)

    def _seal(self, digest: bytes) -> bytes:
        return hmac.digest(self._key, _TAG + digest, "sha256")


class _NotUsable(Exception):
    """Why a snapshot is not taken."""


class _Reader(pickle.Unpickler):
    """Knows the classes of a state and nothing else."""

    def __init__(self, body: bytes, columns: list[Packed], network: NetworkFile, source: EntrySource) -> None:
        super().__init__(io.BytesIO(body))
        self._outside = {"_column": columns.__getitem__, "_network": lambda: network, "_source": lambda: source}

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__:
            return self._outside[name]
        if (module, name) in _CONTAINERS:
            return super().find_class(module, name)
        if module.startswith(_OWN) and "." not in name:
            found = super().find_class(module, name)
            if getattr(found, "__module__", None) == module:  # made there, not merely imported
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state")


def _filled(column: Packed, file: BinaryIO, size: int, hashing: Any) -> Packed:
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            raise _NotUsable("it is damaged")
        hashing.update(chunk)
        size -= len(chunk)
        if isinstance(column, ByteColumn):
            column += chunk
        else:
            cast("array[int]", column).frombytes(chunk)
    return column


def _column(number: int) -> Packed:
    """In a pickle: column ``number``. Only its name is written and read; so with the two below."""
    raise AssertionError(number)


def _network() -> NetworkFile:
    """In a pickle: the network file."""
    raise AssertionError


def _source() -> EntrySource:
    """In a pickle: the journal."""
    raise AssertionError
