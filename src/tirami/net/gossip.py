"""Records everywhere (PROTOCOL B16): each is forwarded on first sight, once it is durable here.

One path for all of them: whatever enters this node's book, its own trade or a stranger's, goes on to a few peers other
than the one it came from. What does not arrive this way comes by reconciliation (:mod:`tirami.net.reconciler`).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import JournalCorrupt, StorageUnavailable, WireError
from tirami.core.keys import PublicKey, Signature, verify
from tirami.ledger import Heads, Ledger, StoredRecord
from tirami.net.intake import Intake
from tirami.net.mesh import FAN_OUT, Mesh
from tirami.net.peer import Peer
from tirami.net.reconciler import Reconciler
from tirami.net.shared import SharedRecords, in_messages
from tirami.proto import Envelope, Head, HeadSeen, Message, Records, SignedBody, decode

_log = structlog.get_logger()
HEAD_S: Final = 60.0
CHANGED_S: Final = 1.0
"""A changed head is told within this."""
RETRY_S: Final = 1.0
"""Before a disk that refused something is asked again."""
PATIENCE_S: Final = 1.0
"""How long a peer's next records wait, unread, for its former ones to be written."""


class Onlooker(Protocol):
    """Whoever is shown the network's records as they enter the book."""

    def see(self, record: Envelope) -> None: ...


class Gossip:
    """The records of one ledger among its mesh.

    Args:
        watch: shown every record on its way.
        heard_head: told of every head that its node signed.
    """

    def __init__(
        self,
        ledger: Ledger,
        heads: Heads,
        mesh: Mesh,
        clock: Clock,
        watch: Onlooker | None = None,
        heard_head: Callable[[Peer, Head, SignedBody], None] = lambda *_: None,
    ) -> None:
        self._ledger = ledger
        self._heads = heads
        self._mesh = mesh
        self._clock = clock
        self._watch = watch
        self._heard_head = heard_head
        self._shared, self._intake = SharedRecords(ledger), Intake(ledger, clock)
        self.reconciler = Reconciler(mesh, self._shared, self._intake, clock)
        self.passed_on = 0
        """Copies of records queued for peers."""
        self._taking: dict[PublicKey, tuple[asyncio.Task[None], float]] = {}
        """What each peer brought last, while it is checked and written, and since when."""
        self._group: asyncio.TaskGroup | None = None
        self._news = asyncio.Event()
        ledger.on_record(self._news.set)
        mesh.on_message(Records, self._records)
        mesh.on_message(HeadSeen, self._head)
        mesh.add(self)

    @property
    def taken(self) -> int:
        """Records that peers brought and the book took."""
        return self._intake.taken

    # --- the mesh tells ----------------------------------------------------------------------------------------

    async def met(self, peer: Peer) -> None:
        if (told := self._own_head()) is not None:
            peer.send(told)

    def lost(self, peer: Peer) -> None:
        """Nothing is kept of a peer."""

    # --- its tasks ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        await self._take_in(forward=False)
        self._shared.reviewed = True
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for work in (self._pass_on(), self._tell_heads(), self.reconciler.run()):
                    group.create_task(work)
        finally:
            self._group = None

    async def _pass_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._take_in(forward=True)

    async def _take_in(self, *, forward: bool) -> None:
        """Past the watch, and on to others, whatever is durable by now; a disk in trouble is waited for."""
        while True:
            try:
                async for records in self._shared.grown():
                    self._show(records)
                    if forward:
                        self._forward(records)
            except (StorageUnavailable, JournalCorrupt) as error:
                _log.warning("records_wait", reason=error.message)
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _show(self, records: Sequence[StoredRecord]) -> None:
        if self._watch is not None:
            for stored in records:
                self._watch.see(stored.envelope)

    def _forward(self, records: Sequence[StoredRecord]) -> None:
        for peer in self._mesh.some(FAN_OUT):
            envelopes = [one.envelope for one in records if self._intake.source(one.record_id) != peer.key]
            self.passed_on += len(envelopes)
            for message in in_messages(envelopes):
                peer.send(message)

    async def _tell_heads(self) -> None:
        told = 0.0
        last: HeadSeen | None = None
        while True:
            own = self._own_head()
            due = self._clock.monotonic() - told >= HEAD_S
            if own is not None and (due or own != last):
                told, last = self._clock.monotonic(), own
                self._mesh.pass_on(own)
            await asyncio.sleep(CHANGED_S)
            with suppress(StorageUnavailable):
                await self._heads.current()

    def _own_head(self) -> HeadSeen | None:
        published = self._heads.published
        if published is None or not self._shared.reviewed:
            return None
        signed, ids = SignedBody(published.body, published.signature), self._shared.ids
        return HeadSeen(signed, len(ids), ids.fingerprint())

    # --- what peers say ------------------------------------------------------------------------------------------

    async def _records(self, peer: Peer, message: Message) -> None:
        """Each peer's in order, and not by its reader: a slow disk here is not a silent peer there.

        While its former ones are not written for longer than a moment, more are dropped; reconciliation brings them.
        """
        assert isinstance(message, Records)
        if (former := self._taking.get(peer.key)) is not None:
            task, since = former
            if (left := since + PATIENCE_S - self._clock.monotonic()) > 0:
                await asyncio.wait([task], timeout=left)
            if not task.done():
                return
        if self._group is None:
            return
        work = self._take(peer, message.envelopes)
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # gossip ends: its group takes nothing new while it waits for the rest
            work.close()
        else:
            self._taking[peer.key] = task, self._clock.monotonic()

    async def _take(self, peer: Peer, envelopes: Sequence[Envelope]) -> None:
        try:
            same_file = peer.hello is not None and peer.hello.network_hash == self._ledger.network.hash
            await self._intake.take(peer.key, envelopes, same_file=same_file)
        except StorageUnavailable as error:
            _log.info("records_dropped", peer=peer.key.hex(), reason=error.message)
        except WireError as error:
            peer.close(error.message)
        except Exception as error:  # one peer's records, whatever they are, do not end gossip
            _log.exception("records_failed", peer=peer.key.hex())
            peer.close(type(error).__name__)
        finally:
            if (last := self._taking.get(peer.key)) is not None and last[0] is asyncio.current_task():
                del self._taking[peer.key]

    async def _head(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, HeadSeen)
        head = decode(Head, message.head.body)
        signature = Signature(message.head.signature)
        if head.network != self._ledger.network.id or head.node != peer.key:
            return
        if not verify(PublicKey(head.node), signature, Head.TAG + message.head.body):
            raise WireError("a head that its node did not sign")
        if head.network_hash == self._ledger.network.hash:
            self.reconciler.heard(peer, message)
        self._heard_head(peer, head, message.head)
