"""The waiting room before the engine: bounded, per payer, the owner first."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tirami.core.clock import Clock
from tirami.core.errors import QueueFull
from tirami.core.units import ceil_div


@dataclass(slots=True)
class _Waiter:
    payer: bytes
    turn: "asyncio.Future[None]"


class WaitingRoom:
    """Hands out ``slots`` places; at most ``slots`` of them to one payer, at most ``capacity`` requests wait."""

    def __init__(self, slots: int, capacity: int, clock: Clock) -> None:
        self._slots = slots
        self._capacity = capacity
        self._clock = clock
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
    def slots(self) -> int:
        return self._slots

    @asynccontextmanager
    async def place(self, payer: bytes, *, owner: bool) -> AsyncIterator[None]:
        """Wait for a place and keep it. Raises ``QueueFull`` with the expected wait in seconds."""
        await self._enter(payer, owner)
        entered = self._clock.monotonic()
        try:
            yield
        finally:
            self._running[payer] -= 1
            took = round((self._clock.monotonic() - entered) * 1000)
            self._mean_ms = (7 * self._mean_ms + took) // 8
            self._call_next()

    async def _enter(self, payer: bytes, owner: bool) -> None:
        if self.waiting == 0 and self.running < self._slots:
            self._running[payer] += 1
            return
        if self.waiting >= self._capacity:
            seconds = ceil_div(self.waiting * self._mean_ms, self._slots * 1000)
            raise QueueFull("the waiting room is full", retry_after=max(1, seconds))
        waiter = _Waiter(payer, asyncio.get_running_loop().create_future())
        queue = self._owners if owner else self._others
        queue.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self._running[payer] -= 1
                self._call_next()
            elif waiter in queue:
                queue.remove(waiter)
            raise

    def _call_next(self) -> None:
        while self.running < self._slots and self.waiting:
            waiter = (self._owners or self._others).popleft()
            if not waiter.turn.done():
                self._running[waiter.payer] += 1
                waiter.turn.set_result(None)
