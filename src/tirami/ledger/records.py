"""Records of the log, read from the journal when somebody asks: in memory there is only where each of them stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tirami.core.errors import JournalCorrupt, StorageUnavailable
from tirami.core.keys import Digest
from tirami.core.units import UnixMs
from tirami.ledger.columns import U64, Column, RecordIds
from tirami.ledger.entries import Entry
from tirami.ledger.log import MerkleLog
from tirami.proto import Envelope, Grant, Trade, Transfer, decode, leaf
from tirami.verify import leaf_hash

_BODIES: dict[str, type[Trade] | type[Grant] | type[Transfer]] = {"trade": Trade, "grant": Grant, "transfer": Transfer}


class EntrySource(Protocol):
    """Where entries can be read again: a journal."""

    def entry(self, seq: int) -> Entry: ...


class Nowhere:
    """The source of a state that is only computed with: no record of it can be read."""

    def entry(self, seq: int) -> Entry:
        raise StorageUnavailable(f"journal entry {seq} cannot be read: this state has no journal")


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record in the journal: its leaf in the log, its entry, when it was written, and its contents."""

    leaf_index: int
    seq: int
    at_ms: UnixMs
    record_id: Digest
    body: Trade | Grant | Transfer
    envelope: Envelope


class Records:
    """All records in the order of their leaves; ``records[-1]`` is the newest.

    Reading one raises ``StorageUnavailable`` when the disk cannot be read, ``JournalCorrupt`` when what it has there
    is not the leaf of the log.
    """

    def __init__(self, log: MerkleLog, ids: RecordIds, source: EntrySource) -> None:
        self._log = log
        self._ids = ids
        self._source = source
        self._seqs = Column(U64)

    def add(self, seq: int) -> None:
        """The next leaf stands in the journal at ``seq``."""
        self._seqs.append(seq)

    def entry(self, seq: int) -> Entry:
        """Any entry of the journal. Raises ``StorageUnavailable``, ``JournalCorrupt``."""
        return self._source.entry(seq)

    def __len__(self) -> int:
        return len(self._seqs)

    def __iter__(self) -> Iterator[StoredRecord]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> StoredRecord:
        index = range(len(self))[index]
        seq = self._seqs[index]
        entry = self._source.entry(seq)
        envelope = entry.content
        if not isinstance(envelope, Envelope) or leaf_hash(leaf(envelope)) != self._log.leaf(index):
            raise JournalCorrupt(f"journal entry {seq} is not the record the log has", entry=seq)
        body = decode(_BODIES[envelope.kind], envelope.body)
        return StoredRecord(index, seq, UnixMs(entry.at_ms), self._ids[index], body, envelope)
