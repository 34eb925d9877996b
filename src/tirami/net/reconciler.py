"""Books that differ are found and made equal by comparing sets of record ids (PROTOCOL B16, TIP-12).

What a full queue, a lost link or a late start kept away from gossip comes this way: on meeting a peer, when its book
differs from ours for a while, and every minute.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import InvalidReconciliation, StreamEnded, TiramiError, WireError
from tirami.core.keys import PublicKey
from tirami.net.budget import Bucket
from tirami.net.frames import FrameReader, FrameWriter, registry
from tirami.net.intake import Intake
from tirami.net.mesh import MAX_PEERS, Mesh
from tirami.net.peer import Peer
from tirami.net.reconciliation import Reconciliation
from tirami.net.shared import SharedRecords, in_messages
from tirami.net.transport import Stream
from tirami.proto import HeadSeen, Message, Reconcile, Records

_log = structlog.get_logger()
LOOK_S: Final = 2.0
"""Who has another book than we for longer than a moment is compared with in full."""
EVERYBODY: Final = 30
"""Of so many looks one takes in everybody."""
DOUBLINGS: Final = 5
"""Whoever has in vain been compared with is so again after twice the time, up to this often: about a minute."""
STEP_S: Final = 10.0
ASKED_S: Final = 30.0
ANSWERED_S: Final = 60.0
"""The longest a reconciliation takes; what it brought until then stays."""
WORKERS: Final = 8
"""Reconciliations begun here at a time: who is slow holds up few others."""
DOUBTED: Final = 4
"""Begun besides with those that may hold it up for nothing, however many they are."""
ANSWERED: Final = 16
"""Reconciliations answered at a time, one for each peer."""
FAIR_S: Final = 5.0
"""After this an answer gives way to another peer, where there is no place for both; one that took longer is to have
brought a record a second, or this peer is in doubt."""
PAUSE_S: Final = 1.0
"""Between two reconciliations that one peer begins."""
OF_PEER: Final = (1_000.0, 10_000.0)
OF_ALL: Final = (5_000.0, 40_000.0)
"""Fingerprints made for peers, a second and at once: some 70 µs each."""
PAIRS: Final = 4_096
"""Peers whose share is remembered when they have left."""
SURPLUS: Final = 16_384
"""Records sent in one reconciliation; what is more is found by the next."""
RECONCILING: Final = registry(Reconcile, Records)


@dataclass(slots=True)
class _Pair:
    """This node and one peer."""

    fingerprints: Bucket
    theirs: HeadSeen | None = None
    """Which set the peer says that it has."""
    asked_s: float = float("-inf")
    answered_s: float = float("-inf")
    """When the last one that we, that they began was over."""
    moved: int = 0
    """Records that the last one brought, either way; one that failed moved one in vain."""
    useful: int = 0
    """Those that were booked here."""
    had: int = 0
    """How many they had before."""
    vain: int = 0
    """How often in a row before that it was of no use."""
    doubted: bool | None = None
    """Whether the last one that we began was held up for next to nothing; ``None`` before the first."""

    @property
    def in_vain(self) -> int:
        """How often in a row less than half of what was sent was new to who got it."""
        gained = 0 if self.theirs is None else max(0, self.theirs.records - self.had)
        return 0 if 2 * (self.useful + gained) >= self.moved else self.vain + 1

    @property
    def pause_s(self) -> float:
        return LOOK_S * (1 << min(self.in_vain, DOUBLINGS))

    def begin(self) -> None:
        self.vain, self.had = self.in_vain, 0 if self.theirs is None else self.theirs.records
        self.moved, self.useful = 1, 0


class Reconciler:
    """Of one node."""

    def __init__(self, mesh: Mesh, shared: SharedRecords, intake: Intake, clock: Clock) -> None:
        self._mesh = mesh
        self._shared = shared
        self._intake = intake
        self._clock = clock
        self._pairs: OrderedDict[PublicKey, _Pair] = OrderedDict()
        self._fingerprints = Bucket(*OF_ALL, clock.monotonic())
        self._wanted: asyncio.Queue[PublicKey] = asyncio.Queue(MAX_PEERS)
        self._doubted: asyncio.Queue[PublicKey] = asyncio.Queue(MAX_PEERS)
        """Wanted as well, of those that are in doubt."""
        self._asking: set[PublicKey] = set()
        """Wanted, or being asked."""
        self._answering: dict[PublicKey, tuple[float, asyncio.Timeout]] = {}
        """Since when, and what ends it."""
        mesh.add(self)

    async def met(self, peer: Peer) -> None:
        if peer.connection.dialled:
            self._want(peer)

    def lost(self, peer: Peer) -> None:
        """What a peer has used up it does not get back by coming again; what it has, it says again."""
        if (pair := self._pairs.get(peer.key)) is not None:
            pair.theirs = None

    def heard(self, peer: Peer, theirs: HeadSeen) -> None:
        """Which records a peer's book under our network file is folded from."""
        self._pair(peer.key).theirs = theirs

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare())
            for wanted, workers in ((self._wanted, WORKERS), (self._doubted, DOUBTED)):
                for _ in range(workers):
                    group.create_task(self._ask_wanted(wanted))

    async def _compare(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(LOOK_S)
            turn += 1
            ours, now = self._shared.ids.fingerprint(), self._clock.monotonic()
            for key, peer in self._mesh.peers.items():
                pair = self._pairs.get(key)
                if pair is None or pair.theirs is None or now - pair.asked_s < pair.pause_s:
                    continue
                if pair.theirs.fingerprint != ours or turn % EVERYBODY == 0:
                    self._want(peer)

    def _want(self, peer: Peer) -> None:
        """In doubt is who was slow for next to nothing, or is not of our own choice and was not asked yet (A-26)."""
        doubted = self._pair(peer.key).doubted
        wanted = self._doubted if (not peer.own_choice if doubted is None else doubted) else self._wanted
        if peer.key not in self._asking and not wanted.full():
            self._asking.add(peer.key)
            wanted.put_nowait(peer.key)

    async def _ask_wanted(self, wanted: asyncio.Queue[PublicKey]) -> None:
        while True:
            key = await wanted.get()
            try:
                if (peer := self._mesh.peers.get(key)) is not None:
                    await self._ask(peer)
            except (TiramiError, TimeoutError) as error:
                _log.info("reconciliation_failed", peer=key.hex(), reason=str(error))
            except Exception:  # one peer's trouble, whatever it is, does not end gossip
                _log.exception("reconciliation_failed", peer=key.hex())
            finally:
                self._asking.discard(key)

    async def _ask(self, peer: Peer) -> None:
        """The initiator's side: compare, fetch what we lack, send what they lack."""
        pair, began = self._pair(peer.key), self._clock.monotonic()
        pair.begin()
        try:
            async with asyncio.timeout(ASKED_S):
                exchange = self._exchange(peer, await peer.connection.open())
                try:
                    await exchange.begin()
                    await exchange.converse(None)
                except BaseException:  # a reset after the end would take from them what they have not read yet
                    await exchange.stream.reset()
                    raise
                finally:
                    pair.moved, pair.useful = exchange.moved, exchange.useful
        finally:
            pair.asked_s = self._clock.monotonic()
            took = pair.asked_s - began
            pair.doubted = took > FAIR_S and pair.useful < took

    async def answer(self, peer: Peer, stream: Stream, first: Reconcile) -> None:
        """The other side of it, on a stream a peer opened. Raises ``WireError`` where it asks too often or too much."""
        if not self._shared.reviewed:
            raise WireError("this node still reads its own records")
        pair, now = self._pair(peer.key), self._clock.monotonic()
        if peer.key in self._answering or now - pair.answered_s < PAUSE_S:
            raise WireError("this node has just compared its books with that peer's")
        if len(self._answering) >= ANSWERED:
            self._make_room(now)
        async with asyncio.timeout(ANSWERED_S) as deadline:
            mine = self._answering[peer.key] = now, deadline
            try:
                await self._exchange(peer, stream).converse(first)
            finally:
                pair.answered_s = self._clock.monotonic()
                if self._answering.get(peer.key) is mine:
                    del self._answering[peer.key]

    def _make_room(self, now: float) -> None:
        """End the longest of those that had their share."""
        key, (since, deadline) = min(self._answering.items(), key=lambda item: item[1][0])
        if now - since < FAIR_S:
            raise WireError("this node compares its books with others already")
        del self._answering[key]
        if not deadline.expired():
            deadline.reschedule(0)

    def _exchange(self, peer: Peer, stream: Stream) -> "_Exchange":
        return _Exchange(self._shared, self._intake, peer.key, stream, partial(self._pace, self._pair(peer.key)))

    async def _pace(self, pair: _Pair, effort: int) -> None:
        now = self._clock.monotonic()
        await asyncio.sleep(max(pair.fingerprints.take(effort, now), self._fingerprints.take(effort, now)))

    def _pair(self, key: PublicKey) -> _Pair:
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = _Pair(Bucket(*OF_PEER, self._clock.monotonic()))
        self._pairs.move_to_end(key)
        while len(self._pairs) > PAIRS:
            self._pairs.popitem(last=False)
        return pair


class _Exchange:
    """One reconciliation, seen from one side."""

    def __init__(
        self,
        shared: SharedRecords,
        intake: Intake,
        peer: PublicKey,
        stream: Stream,
        pace: Callable[[int], Awaitable[None]],
    ) -> None:
        self._shared = shared
        self._intake = intake
        self._peer = peer
        self.stream = stream
        self._pace = pace
        self.moved, self.useful = 1, 0
        """Records sent and received; those that were booked. Until it is over, one more has moved in vain."""
        self._reader, self._writer = FrameReader(stream, RECONCILING), FrameWriter(stream)
        self._reconciliation = Reconciliation(shared.ids)
        self._surplus: list[bytes] = []
        """Ids of what they lack."""

    async def begin(self) -> None:
        await self._writer.write(Reconcile(self._reconciliation.begin()))

    async def converse(self, first: Message | None) -> None:
        """Steps until both know the difference; then each sends what the other lacks, and ends its direction.

        Who has learned of enough to send ends its direction before: its last step stays without an answer, and what it
        sends tells the other that no further step comes.
        """
        message = first or await self._next()
        while isinstance(message, Reconcile):
            message = await self._next() if await self._step(message) else None
        await _both(self._send(), self._receive(message))
        self.moved -= 1

    async def _send(self) -> None:
        for records in in_messages(self._shared.envelopes(islice(self._surplus, SURPLUS))):
            self.moved += len(records.envelopes)
            await self._writer.write(records)
        await self.stream.finish()

    async def _receive(self, message: Message | None) -> None:
        """Until they have ended their direction; ``message`` has been read already."""
        message = message or await self._next()
        while message is not None:
            if isinstance(message, Records):
                await self._take(message)
            elif len(self._surplus) < SURPLUS:
                raise _misplaced(message)
            message = await self._next()

    async def _take(self, records: Records) -> None:
        self.moved += len(records.envelopes)
        self.useful += await self._intake.take(self._peer, records.envelopes)

    async def _next(self) -> Message | None:
        """``None`` once they have ended their direction."""
        with suppress(StreamEnded):
            async with asyncio.timeout(STEP_S):
                return await self._reader.read()
        return None

    async def _step(self, message: Reconcile) -> bool:
        """Answer it; returns whether there is more to say."""
        try:
            step = self._reconciliation.step(message.step)
        except InvalidReconciliation as error:
            raise WireError(error.message) from error
        await self._pace(step.effort)
        self._surplus += step.surplus
        if len(self._surplus) >= SURPLUS:
            return False
        if step.reply is not None:
            await self._writer.write(Reconcile(step.reply))
        return not step.finished


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """Side by side: were both peers to send before they read, each would wait for the other once the stream is full.

    Raises what the first of them raises, once none of them runs any more.
    """
    tasks = [asyncio.create_task(work, name="reconciling") for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del task, tasks  # else an error and the frame it comes from keep each other, and all that was not read


def _misplaced(message: Message) -> WireError:
    return WireError(f"a {type(message).__name__} is out of place here")
