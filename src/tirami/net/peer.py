"""One peer: a connection, its control stream with everything that goes both ways on it, and the task that owns both."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import ConnectionLost, MeshError, TiramiError, WireError
from tirami.core.keys import PublicKey
from tirami.core.units import UnixMs
from tirami.net.budget import Budget
from tirami.net.burden import Burden, Weighed
from tirami.net.frames import FrameReader, FrameWriter, encode, registry
from tirami.net.hello import introduce
from tirami.net.places import Places
from tirami.net.transport import Connection, Stream
from tirami.proto import (
    FraudFound,
    HeadSeen,
    Hello,
    KillAnswered,
    KillOrdered,
    Leaving,
    Message,
    ObservationSeen,
    Ping,
    Pong,
    Records,
    Refused,
    RotationSeen,
    SignalSeen,
)

CONTROL: Final = registry(
    *(Hello, Refused, Ping, Pong, Leaving),
    *(Records, HeadSeen, FraudFound, SignalSeen, ObservationSeen, KillOrdered, KillAnswered, RotationSeen),
)
"""What may come on the first stream of a connection."""
PING_S: Final = 1.0
SILENCE_S: Final = 3.5
"""Seconds without any word after which a peer is gone, noticed at the next ping: within 5 s, or some pings are lost."""
QUEUE_BYTES: Final = 512 * 1024
"""Bytes that wait for a slow peer, or one message; more are dropped, and reconciliation brings what they said."""
QUIET_S: Final = 2.0
"""Seconds without anything under way until a connection is done with: what is opened before both know comes sooner."""
STALLED_S: Final = 20.0
"""Seconds a peer may leave a message unread before it counts as gone, whatever it says itself."""
NOTED_MS: Final = 60_000
"""Between two clocks, from which on people are told."""
_log = structlog.get_logger()

_QUEUE: Final = "queue"
Heard = Callable[["Peer", Message], Awaitable[None]]
Asked = Callable[["Peer", Stream], Awaitable[None]]


class Peer:
    """A connected node. :meth:`run` is its owner: when it returns, nothing of it is left.

    Args:
        burden: that of all peers together; by default it has one of its own.
        now: this node's time, Unix milliseconds: what it dates its records with; the clock's by default.
    """

    def __init__(
        self,
        connection: Connection,
        own: Hello,
        clock: Clock,
        burden: Burden | None = None,
        now: Callable[[], UnixMs] | None = None,
    ) -> None:
        self.connection = connection
        self.origin = connection.remote
        """Where it connected from; ``None`` for a relay. Where it is now, the connection says: paths change."""
        self.places = Places(connection)
        """For sessions that this node begins."""
        self.hello: Hello | None = None
        """What it said of itself; set before anybody is told of it."""
        self.rtt_s: float | None = None
        """Round trip on the control stream, seconds, smoothed: what a request to it really waits."""
        self.ahead_ms: int | None = None
        """How far its time stands ahead of ours, by its last pong; ``None`` while it has not said."""
        self.connected_s = clock.monotonic()
        self._own = own
        self._clock = clock
        self._now = now or clock.now_ms
        self._noted = False
        self._budget = Budget(clock)
        self._share = (burden or Burden()).share(lambda: self.own_choice, connection.close)
        self._answering: set[asyncio.Task[None]] = set()
        """Streams the peer opened."""
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        """Bytes in the queue."""
        self._queued = asyncio.Event()
        self._heard_s = clock.monotonic()
        self._handling = False
        """A message of it is being handled: whatever it says meanwhile is not read, so it is not silent."""
        self._pinged: dict[int, float] = {}
        self.dropped = 0
        """Messages it was too slow for."""
        self.called_to_buy = False
        """Whether this node called it for a purchase, and lets it go when idle."""
        self.released = False
        """Whether this node let it go, with nothing against it: what it serves it goes on to serve."""
        self.gone = asyncio.Event()
        """Set once it is no peer any more."""

    @property
    def key(self) -> PublicKey:
        return self.connection.peer

    @property
    def own_choice(self) -> bool:
        """Whether this node chose whom to call (A-26): who sells cheaply is called for that, whoever it is."""
        return self.connection.dialled and not self.called_to_buy

    @property
    def age_s(self) -> float:
        """Seconds since it connected."""
        return self._clock.monotonic() - self.connected_s

    def send(self, message: Message) -> bool:
        """Queue a message on the control stream; ``False`` when it had to be dropped. Never waits."""
        frame = encode(message)
        if self._waiting and self._waiting + len(frame) > QUEUE_BYTES:
            self.dropped += 1
            return False
        self._queue.append(frame)
        self._waiting += len(frame)
        self._share.keep(_QUEUE, self._waiting)
        self._queued.set()
        return True

    def may_ask(self, first: Message) -> bool:
        """Whether a stream it opened with this message is to be answered, or it opens too many of that kind."""
        return self._budget.opens(first.TYPE)

    @property
    def busy(self) -> bool:
        """Whether a session is under way, or anything it asked for."""
        return bool(self.places.taken or self._answering)

    def close(self, reason: str) -> None:
        self.connection.close(reason)
        self._share.end()

    def release(self) -> None:
        """Let it go: nothing more is wanted of it now."""
        self.released = True
        self.close("nothing more to ask for")

    async def drained(self) -> None:
        """Wait until nothing has been under way for ``QUIET_S``, or it is gone."""
        since = self._clock.monotonic()
        while not self.gone.is_set() and self._clock.monotonic() - since < QUIET_S:
            await asyncio.sleep(QUIET_S / 4)
            if self.busy:
                since = self._clock.monotonic()

    async def introduced(self) -> Hello:
        """Open or await the control stream and agree. Raises ``MeshError``."""
        try:
            async with asyncio.timeout(SILENCE_S):  # who lets nobody open a stream would keep its caller for ever
                stream = await (self.connection.open() if self.connection.dialled else self.connection.accept())
        except TimeoutError:
            raise ConnectionLost(f"no control stream for {SILENCE_S:g} s") from None
        self._stream = Weighed(stream, self._share)
        self._reader = FrameReader(self._stream, CONTROL, pace=self._budget.pace)
        self.hello = await introduce(self._reader, FrameWriter(self._stream), self._own)
        self._heard_s = self._clock.monotonic()
        return self.hello

    async def run(self, heard: Heard, asked: Asked) -> str:
        """Until the connection ends; returns why. ``heard`` gets control messages in order, ``asked`` each stream."""
        reason, loop = "closed", asyncio.get_running_loop()
        works = (self._listen(heard), self._speak(), self._ping(), self._accept(asked))
        tasks = [loop.create_task(work, name=f"peer-{self.key.hex()[:8]}") for work in works]
        # No task group: its error and the frame it comes from refer to each other, and all that the peer left unread
        # would stay until the cycle is collected.
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and (error := task.exception()) is not None:
                    if not isinstance(error, MeshError):
                        raise error
                    reason = str(error)
        finally:
            error = None
            self.connection.close(reason)
            await _ended([*tasks, *self._answering])
        return reason

    async def _listen(self, heard: Heard) -> None:
        while True:
            message = await self._reader.read()
            self._heard_s = self._clock.monotonic()
            match message:
                case Ping():
                    self.send(Pong(message.nonce, self._now()))
                case Pong():
                    self._measure(message)
                case Leaving():
                    raise ConnectionLost(f"the peer leaves: {message.reason}")
                case Hello() | Refused():
                    raise WireError(f"a {type(message).__name__} is out of place here")
                case _:
                    self._handling = True
                    try:
                        await heard(self, message)
                    finally:
                        self._handling, self._heard_s = False, self._clock.monotonic()

    async def _speak(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                frame = self._queue.popleft()
                try:
                    async with asyncio.timeout(STALLED_S):
                        await self._stream.write(frame)
                except TimeoutError:
                    raise ConnectionLost(f"the peer has read nothing for {STALLED_S:g} s") from None
                self._waiting -= len(frame)
                self._share.keep(_QUEUE, self._waiting)

    async def _ping(self) -> None:
        nonce = 0
        while True:
            nonce += 1
            self._pinged = {nonce: self._clock.monotonic()}
            self.send(Ping(nonce))
            await asyncio.sleep(PING_S)
            if not self._handling and self._clock.monotonic() - self._heard_s > SILENCE_S:
                raise ConnectionLost(f"no word for {SILENCE_S:g} s")

    def _measure(self, pong: Pong) -> None:
        sent = self._pinged.pop(pong.nonce, None)
        if sent is None:
            return
        took = self._clock.monotonic() - sent
        self.rtt_s = took if self.rtt_s is None else (3 * self.rtt_s + took) / 4
        if pong.at_ms:
            self.ahead_ms = pong.at_ms + round(took * 500) - self._now()
            if abs(self.ahead_ms) > NOTED_MS and not self._noted:
                self._noted = True  # once a connection
                _log.warning("peer_clock_differs", peer=self.key.hex(), ahead_s=self.ahead_ms // 1000)

    async def _accept(self, asked: Asked) -> None:
        while True:
            stream = await self.connection.accept()
            entered = self._budget.enter()
            work = self._answered(Weighed(stream, self._share), asked) if entered else stream.reset()
            task = asyncio.create_task(work, name="asked")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answered(self, stream: Weighed, asked: Asked) -> None:
        """One stream's trouble is its own."""
        try:
            await asked(self, stream)
        except Exception as error:
            if not isinstance(error, TiramiError | TimeoutError):
                _log.exception("stream_failed", peer=self.key.hex())
            await stream.reset()
        finally:
            stream.done()
            self._budget.leave()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them and wait; what they fail with has been told, or is of no interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.exception()  # whether it was cancelled or failed: the task lets go of it
