"""When snapshots are taken: every so many entries and at a clean stop, never of anything that is not durable."""

import asyncio
from collections.abc import Callable

import structlog

from tirami.core.errors import StorageUnavailable
from tirami.ledger.journal import Journal
from tirami.ledger.snapshot import Snapshot, SnapshotFile, taken
from tirami.ledger.state import State

EVERY, SHARE = 50_000, 32
"""Entries between two snapshots, or that part of the journal if it is more: what a start after a crash, or a refused
write, has to fold at most."""
_log = structlog.get_logger()


class Snapshots:
    """The snapshots of one ledger. ``state`` gives its state as it stands."""

    def __init__(self, file: SnapshotFile, journal: Journal, state: Callable[[], State]) -> None:
        self._file = file
        self._journal = journal
        self._state = state
        self._task: asyncio.Task[None] | None = None
        self._newest = 0

    def read(self) -> Snapshot | None:
        """The newest snapshot, if the journal passes through it."""
        found = self._file.read(self._journal)
        if found is not None and not self._journal.passes(found.seq, found.chain):
            _log.warning("snapshot_not_used", reason="the journal does not pass through it", entry=found.seq)
            found = None
        self._newest = found.seq if found else 0
        return found

    def follow(self) -> None:
        """Something was appended: begin a snapshot when one is due."""
        due = self._newest + max(EVERY, self._newest // SHARE)
        if self._journal.seq >= due and (self._task is None or self._task.done()):
            self._newest = self._journal.seq
            self._task = asyncio.create_task(self._take(), name="snapshot")

    async def close(self) -> None:
        """Finish the one under way; take a last one if there is anything new. Call it before the journal closes."""
        if self._task is not None:
            await self._task
        if self._journal.seq != self._newest:
            await self._take()

    async def _take(self) -> None:
        """The picture is taken in one step of the event loop, written in a thread once all in it is durable."""
        if not self._journal.accepting:
            return
        self._newest = self._journal.seq
        try:
            picture = taken(self._state(), self._journal, self._journal.seq, self._journal.chain)
            await self._journal.barrier()
            await asyncio.to_thread(self._file.write, picture)
        except StorageUnavailable:
            pass  # it shows what has not happened
        except Exception as error:
            _log.warning("snapshot_not_written", reason=str(error))
