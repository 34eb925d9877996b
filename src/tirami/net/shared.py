"""The records this node shows others: those of network scope that are durable here, as a set that can be compared.

A record is in the book before it is on disk. Were it shown then and lost, this node would sign its number again for
something else, and whoever had seen both could prove a fraud of an honest key.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from tirami.core.keys import sha256
from tirami.ledger import NETWORK, Ledger, StoredRecord
from tirami.net.idset import IdSet
from tirami.proto import RECORDS, Envelope, Records, Trade, decode

BATCH: Final = 64
BATCH_BYTES: Final = 256 * 1024
_TAGS = {record.__name__.lower(): record.TAG for record in RECORDS}


class SharedRecords:
    """Of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids = IdSet(ledger.state.book.ids)
        self._size = 0
        """Records of the log taken in: all durable, so every state that is read again has them in the same places."""
        self.reviewed = False
        """What the book held at the start has been taken in."""

    @property
    def ids(self) -> IdSet:
        """As far as :meth:`grown` has taken them in."""
        self._ids.stand_in(self._ledger.state.book.ids)
        return self._ids

    async def grown(self) -> AsyncIterator[list[StoredRecord]]:
        """Wait for the disk and take in what came since, a few records at a time; gives the event loop between.

        Raises ``StorageUnavailable`` when the disk refused something or cannot be read, ``JournalCorrupt``; nothing is
        lost then: call it again later.
        """
        until = len(self._ledger.state.records)
        await self._ledger.kept()
        while self._size < until:
            records, indexes = self._ledger.state.records, range(self._size, min(until, self._size + BATCH))
            found = [records[index] for index in indexes]
            shared = [stored for stored in found if not is_local(stored.envelope)]
            for stored in shared:
                self.ids.add(stored.leaf_index)
            self._size = indexes.stop
            if shared:
                yield shared
            await asyncio.sleep(0)

    def envelopes(self, record_ids: Iterable[bytes]) -> Iterator[Envelope]:
        """Those of these ids that are shown, read as they are asked for. Raises as :meth:`grown`."""
        state, known = self._ledger.state, self.ids
        for record_id in record_ids:
            if record_id in known and (stored := state.stored(record_id)) is not None:
                yield stored.envelope


def is_local(envelope: Envelope) -> bool:
    """Whether it is nobody else's business (B14)."""
    return envelope.kind == "trade" and decode(Trade, envelope.body).scope != NETWORK


def record_id(envelope: Envelope) -> bytes:
    return sha256(_TAGS.get(envelope.kind, b""), envelope.body)


def in_messages(envelopes: Iterable[Envelope]) -> Iterator[Records]:
    """As few messages as their bounds allow, made as they are asked for."""
    batch: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        length = len(envelope.body) + sum(map(len, envelope.attachments)) + 256
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield Records(tuple(batch))
            batch, size = [], 0
        batch.append(envelope)
        size += length
    if batch:
        yield Records(tuple(batch))
