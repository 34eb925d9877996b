"""Records everywhere (PROTOCOL B16): each is forwarded on first sight, and what was missed is found by comparing sets.

One path for all of them: whatever enters this node's book, its own trade or a stranger's, goes on to a few peers other
than the one it came from. What a full queue, a lost link or a late start kept away comes by reconciliation: on meeting
a peer, when its book differs from ours for a while, and every minute.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Final, Protocol

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import (
    InvalidReconciliation,
    MeshError,
    StorageUnavailable,
    StreamEnded,
    VerificationError,
    WireError,
)
from tirami.core.keys import PublicKey, Signature, sha256, verify
from tirami.ledger import NETWORK, Admitted, Heads, Ledger, StoredRecord, admit
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.idset import IdSet
from tirami.net.mesh import Mesh
from tirami.net.peer import Peer
from tirami.net.reconciliation import Reconciliation
from tirami.net.transport import Stream
from tirami.net.unfunded import Unfunded
from tirami.proto import (
    RECORDS,
    Envelope,
    Head,
    HeadSeen,
    Message,
    Reconcile,
    Records,
    SignedBody,
    Trade,
    decode,
)

_log = structlog.get_logger()
FAN_OUT: Final = 6
BATCH: Final = 64
BATCH_BYTES: Final = 256 * 1024
HEAD_S: Final = 60.0
CHANGED_S: Final = 1.0
"""A changed head is told within this."""
RECONCILE_S: Final = 60.0
STEP_S: Final = 10.0
ANSWERED: Final = 16
"""Reconciliations answered at a time, one for each peer."""
SURPLUS: Final = 16_384
"""Records sent in one reconciliation; what is more is found by the next."""
_TAGS = {record.__name__.lower(): record.TAG for record in RECORDS}
RECONCILING: Final = registry(Reconcile, Records)


class Onlooker(Protocol):
    """Whoever is shown the network's records as they enter the book."""

    def see(self, record: Envelope) -> None: ...


class Gossip:
    """The records of one ledger among its mesh.

    Args:
        random: whom to tell; a seeded one makes a simulation repeatable.
        watch: shown every record on its way.
        heard_head: told of every head that its node signed.
    """

    def __init__(
        self,
        ledger: Ledger,
        heads: Heads,
        mesh: Mesh,
        clock: Clock,
        random: Random,
        watch: Onlooker | None = None,
        heard_head: Callable[[Peer, Head, SignedBody], None] = lambda *_: None,
    ) -> None:
        self._ledger = ledger
        self._heads = heads
        self._mesh = mesh
        self._clock = clock
        self._random = random
        self._watch = watch
        self._heard_head = heard_head
        self._told = 0
        """Records of the log that have been passed on."""
        self._set, self._set_of, self._seen = IdSet(ledger.state.book.ids), ledger.state, 0
        """Ids of the network's records in this state, and up to which record they were taken in."""
        self._source: OrderedDict[bytes, PublicKey] = OrderedDict()
        """Who brought a record; it is not told to them."""
        self._theirs: dict[PublicKey, HeadSeen] = {}
        self.taken, self.passed_on = 0, 0
        """Records that peers brought and the book took; copies of records queued for peers."""
        self._unfunded = Unfunded(self._is_settled)
        self._reconciling: set[PublicKey] = set()
        self._answering: set[PublicKey] = set()
        self._reviewed = False
        self._news = asyncio.Event()
        self._wanted: asyncio.Queue[PublicKey] = asyncio.Queue(256)
        ledger.on_record(self._news.set)
        mesh.on_message(Records, self._records)
        mesh.on_message(HeadSeen, self._head)
        mesh.add(self)

    # --- the mesh tells ----------------------------------------------------------------------------------------

    async def met(self, peer: Peer) -> None:
        if (told := self._own_head()) is not None:
            peer.send(told)
        if peer.connection.dialled:
            self._want(peer.key)

    def lost(self, peer: Peer) -> None:
        self._theirs.pop(peer.key, None)

    # --- its tasks ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        await self._review()
        async with asyncio.TaskGroup() as group:
            for work in (self._pass_on(), self._tell_heads(), self._reconcile(), self._compare()):
                group.create_task(work)

    async def _review(self) -> None:
        """What the book holds already, piece by piece: into the set, and past the watch."""
        records = self._ledger.state.records
        while self._told < len(records):
            until = min(len(records), self._told + BATCH)
            self._catch_up(until)
            self._show([records[index] for index in range(self._told, until)])
            self._told = until
            await asyncio.sleep(0)
        self._reviewed = True

    async def _pass_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not await self._ledger.durable():
                continue
            self._catch_up()
            records = self._ledger.state.records
            self._told = min(self._told, len(records))  # the disk refused some, and they are gone
            while self._told < len(records):
                until = min(len(records), self._told + BATCH)
                new = [records[index] for index in range(self._told, until)]
                self._told = until
                shared = [stored for stored in new if not _is_local(stored.envelope)]
                if shared:
                    self._show(shared)
                    self._forward([(stored.record_id, stored.envelope) for stored in shared])
                await asyncio.sleep(0)

    def _show(self, records: Sequence[StoredRecord]) -> None:
        if self._watch is not None:
            for stored in records:
                if not _is_local(stored.envelope):
                    self._watch.see(stored.envelope)

    def _forward(self, records: Sequence[tuple[bytes, Envelope]]) -> None:
        peers = list(self._mesh.peers.values())
        for peer in self._random.sample(peers, min(FAN_OUT, len(peers))):
            envelopes = [envelope for record_id, envelope in records if self._source.get(record_id) != peer.key]
            self.passed_on += len(envelopes)
            for message in _messages(envelopes):
                peer.send(message)

    async def _tell_heads(self) -> None:
        told = 0.0
        last: HeadSeen | None = None
        while True:
            own = self._own_head()
            due = self._clock.monotonic() - told >= HEAD_S
            if own is not None and (due or own != last):
                told, last = self._clock.monotonic(), own
                for peer in self._mesh.peers.values():
                    peer.send(own)
            await asyncio.sleep(CHANGED_S)
            with suppress(StorageUnavailable):
                await self._heads.current()

    async def _compare(self) -> None:
        """Who has another book than we for more than a moment is compared with in full; everybody, now and then."""
        turn = 0
        while True:
            await asyncio.sleep(2 * CHANGED_S)
            turn += 1
            self._catch_up()
            network = self._ledger.network
            for key, theirs in list(self._theirs.items()):
                if decode(Head, theirs.head.body).network_hash != network.hash:
                    continue
                if theirs.fingerprint != self._set.fingerprint() or turn % round(RECONCILE_S / 2 / CHANGED_S) == 0:
                    self._want(key)

    async def _reconcile(self) -> None:
        while True:
            key = await self._wanted.get()
            peer = self._mesh.peers.get(key)
            self._reconciling.discard(key)
            if peer is None:
                continue
            try:
                async with asyncio.timeout(30):
                    await self._ask(peer)
            except (MeshError, VerificationError, TimeoutError) as error:
                _log.info("reconciliation_failed", peer=key.hex(), reason=str(error))

    def _want(self, key: PublicKey) -> None:
        if key not in self._reconciling and not self._wanted.full():
            self._reconciling.add(key)
            self._wanted.put_nowait(key)

    # --- reconciliation ------------------------------------------------------------------------------------------

    async def _ask(self, peer: Peer) -> None:
        """The initiator's side: compare, fetch what we lack, send what they lack."""
        self._catch_up()
        stream = await peer.connection.open()
        try:
            reader, writer = FrameReader(stream, RECONCILING), FrameWriter(stream)
            reconciliation = Reconciliation(self._set)
            await writer.write(Reconcile(reconciliation.begin()))
            await self._converse(peer, reconciliation, reader, writer, stream)
        finally:
            await stream.reset()

    async def answer(self, peer: Peer, stream: Stream, first: Reconcile) -> None:
        """The other side of it, on a stream a peer opened."""
        if not self._reviewed:
            raise WireError("this node still reads its own records")
        if peer.key in self._answering or len(self._answering) >= ANSWERED:
            raise WireError("this node compares its books with others already")
        self._answering.add(peer.key)
        try:
            self._catch_up()
            reader, writer = FrameReader(stream, RECONCILING), FrameWriter(stream)
            async with asyncio.timeout(60):
                await self._converse(peer, Reconciliation(self._set), reader, writer, stream, first)
        finally:
            self._answering.discard(peer.key)

    async def _converse(
        self,
        peer: Peer,
        reconciliation: Reconciliation,
        reader: FrameReader,
        writer: FrameWriter,
        stream: Stream,
        message: Message | None = None,
    ) -> None:
        """Steps until both know the difference; then each sends what the other lacks, and ends its direction.

        Who has learned of enough to send ends its direction before: its last step stays without an answer.
        """
        surplus: list[bytes] = []
        while True:
            if message is None:
                try:
                    async with asyncio.timeout(STEP_S):
                        message = await reader.read()
                except StreamEnded:
                    break
            match message:
                case Reconcile():
                    try:
                        step = reconciliation.step(message.step)
                    except InvalidReconciliation as error:
                        raise WireError(error.message) from error
                    surplus += step.surplus
                    if len(surplus) >= SURPLUS:
                        break
                    if step.reply is not None:
                        await writer.write(Reconcile(step.reply))
                    if step.finished:
                        break
                case Records():
                    await self._take(peer, message.envelopes)
                case _:
                    raise WireError(f"a {type(message).__name__} is out of place here")
            message = None
        state = self._ledger.state
        stored = (state.stored(record_id) for record_id in surplus[:SURPLUS])
        envelopes = (found.envelope for found in stored if found is not None and not _is_local(found.envelope))
        for records in _messages(envelopes):
            await writer.write(records)
        await stream.finish()
        with suppress(StreamEnded):
            while True:
                async with asyncio.timeout(STEP_S):
                    message = await reader.read()
                if isinstance(message, Records):
                    await self._take(peer, message.envelopes)
                elif len(surplus) < SURPLUS:
                    raise WireError(f"a {type(message).__name__} is out of place here")

    def _catch_up(self, until: int | None = None) -> None:
        """Take the network's records that came since, up to a number of them, into the set that is compared."""
        state = self._ledger.state
        if self._set_of is not state:
            self._set, self._set_of, self._seen = IdSet(state.book.ids), state, 0
        last = len(state.records) if until is None else until
        while self._seen < last:
            if not _is_local(state.records[self._seen].envelope):
                self._set.add(self._seen)
            self._seen += 1

    # --- what peers say ------------------------------------------------------------------------------------------

    async def _records(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, Records)
        await self._take(peer, message.envelopes)

    async def _take(self, peer: Peer, envelopes: Sequence[Envelope]) -> None:
        """Admit what is new, off the event loop, and book it. A record that is none ends the connection."""
        book = self._ledger.state.book
        new = [envelope for envelope in envelopes if _record_id(envelope) not in book]
        if not new:
            return
        try:
            admitted = await asyncio.to_thread(lambda: [admit(envelope, self._ledger.network) for envelope in new])
        except VerificationError as error:
            raise WireError(f"a record that is none: {error.message}") from error
        written: Awaitable[None] | None = None
        for one in admitted:
            if _is_local(one.envelope):
                raise WireError("a record of local scope is nobody else's business")
            if one.record_id in book or not self._affords(peer, one):
                continue
            self._source[one.record_id] = peer.key
            written = self._ledger.append([one.envelope], one)
            self.taken += 1
        while len(self._source) > 100_000:
            self._source.popitem(last=False)
        if written is not None:
            with suppress(StorageUnavailable):
                await written

    def _affords(self, peer: Peer, admitted: Admitted) -> bool:
        """Storing is not honouring (B16): records nothing covers are bounded for payer and peer."""
        account, debit = admitted.demand.account, admitted.demand.debit
        state, (incarnation, number, _) = self._ledger.state, debit.order
        late = state.succession.too_late(account.owner, incarnation, number)  # of a key that has ended: no funding
        if state.book.covers(account, debit) and not late:
            return True
        return self._unfunded.take(admitted.record_id, account.owner, peer.key, self._clock.monotonic())

    def _is_settled(self, record_id: bytes) -> bool:
        book = self._ledger.state.book
        return record_id not in book or book.is_applied(record_id)

    async def _head(self, peer: Peer, message: Message) -> None:
        assert isinstance(message, HeadSeen)
        head = decode(Head, message.head.body)
        signature = Signature(message.head.signature)
        if head.network != self._ledger.network.id or head.node != peer.key:
            return
        if not verify(PublicKey(head.node), signature, Head.TAG + message.head.body):
            raise WireError("a head that its node did not sign")
        self._theirs[peer.key] = message
        self._heard_head(peer, head, message.head)

    def _own_head(self) -> HeadSeen | None:
        published = self._heads.published
        if published is None or not self._reviewed:
            return None
        self._catch_up()
        signed = SignedBody(published.body, published.signature)
        return HeadSeen(signed, len(self._set), self._set.fingerprint())


def _is_local(envelope: Envelope) -> bool:
    return envelope.kind == "trade" and decode(Trade, envelope.body).scope != NETWORK


def _record_id(envelope: Envelope) -> bytes:
    return sha256(_TAGS.get(envelope.kind, b""), envelope.body)


def _messages(envelopes: Iterable[Envelope]) -> Iterator[Records]:
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
