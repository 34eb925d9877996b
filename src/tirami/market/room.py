"""The waiting room before the engine: bounded, the owner first, then whoever of the others has the fewest places."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from tirami.core.clock import Clock
from tirami.core.errors import QueueFull
from tirami.core.units import ceil_div


@dataclass(slots=True, eq=False)
class _Waiter:
    payer: bytes
    turn: "asyncio.Future[None]"


class WaitingRoom:
    """Hands out ``slots`` places; at most ``capacity`` requests wait.

    A free place goes to the waiting payer who holds the fewest, in order of arrival among equals. In a full room the
    payer with the most waiting requests gives way to one with fewer, so that nobody is kept out by somebody's crowd.
    A room that is not ``is_open`` yet lets people wait and calls nobody before :meth:`open`.
    """

    def __init__(self, slots: int, capacity: int, clock: Clock, *, is_open: bool = True) -> None:
        self._slots = slots
        self._capacity = capacity
        self._clock = clock
        self._open = is_open
        self._owners: deque[_Waiter] = deque()
        self._others: deque[_Waiter] = deque()
        self._running: Counter[bytes] = Counter()
        self._mean_ms = 1000
        """Smoothed time a place is kept, for an honest Retry-After."""

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._owners) + len(self._others)

    @property
    def full(self) -> bool:
        """Whether the next to come is turned away, or somebody for them."""
        return self.running >= self._slots and self.waiting >= self._capacity

    @property
    def free(self) -> bool:
        """Whether the next to come is given a place at once."""
        return self._open and self.waiting == 0 and self.running < self._slots

    @property
    def slots(self) -> int:
        return self._slots

    def open(self) -> None:
        """Begin to hand out places, to who waits first."""
        self._open = True
        self._call_next()

    @asynccontextmanager
    async def place(self, payer: bytes, *, owner: bool, gentle: bool = False) -> AsyncIterator[float]:
        """Wait for a place and keep it; gives the seconds waited. Raises ``QueueFull`` with the expected wait.

        ``gentle``: for somebody who is perhaps served elsewhere; nobody is turned away for it.
        """
        asked = self._clock.monotonic()
        await self._enter(payer, owner, gentle)
        entered = self._clock.monotonic()
        try:
            yield entered - asked
        finally:
            self._left(payer)
            took = round((self._clock.monotonic() - entered) * 1000)
            self._mean_ms = (7 * self._mean_ms + took) // 8
            self._call_next()

    @contextmanager
    def spare(self, payer: bytes, most: int) -> Iterator[int]:
        """Keep up to ``most`` more places that are free now and that nobody waits for; yields how many."""
        taken = max(0, min(most, self._slots - self.running)) if self.waiting == 0 else 0
        if taken:
            self._running[payer] += taken
        try:
            yield taken
        finally:
            for _ in range(taken):
                self._left(payer)
            self._call_next()

    async def _enter(self, payer: bytes, owner: bool, gentle: bool) -> None:
        if self.free:
            self._running[payer] += 1
            return
        if self.waiting >= self._capacity:
            if gentle:
                raise self._full()
            self._make_way(payer)
        waiter = _Waiter(payer, asyncio.get_running_loop().create_future())
        queue = self._owners if owner else self._others
        queue.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._left(payer)
                self._call_next()
            elif waiter in queue:
                queue.remove(waiter)
            raise

    def _left(self, payer: bytes) -> None:
        self._running[payer] -= 1
        if not self._running[payer]:
            del self._running[payer]

    def _make_way(self, payer: bytes) -> None:
        """Turn away the newest request of the most numerous other payer, or raise ``QueueFull``."""
        waiting = Counter(waiter.payer for waiter in self._others)
        crowd, most = max(waiting.items(), key=lambda entry: entry[1], default=(payer, 0))
        if most <= waiting[payer] + 1:
            raise self._full()
        last = next(waiter for waiter in reversed(self._others) if waiter.payer == crowd)
        self._others.remove(last)
        if not last.turn.done():
            last.turn.set_exception(self._full())

    def _full(self) -> QueueFull:
        seconds = ceil_div(self.waiting * self._mean_ms, self._slots * 1000)
        return QueueFull("the waiting room is full", retry_after=max(1, seconds))

    def _call_next(self) -> None:
        while self._open and self.running < self._slots and self.waiting:
            queue = self._owners or self._others
            waiter = min(queue, key=lambda entry: self._running[entry.payer])
            queue.remove(waiter)
            if not waiter.turn.done():
                self._running[waiter.payer] += 1
                waiter.turn.set_result(None)
