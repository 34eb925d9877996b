"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else is to be done.

Hours of timeouts, heartbeats and back-offs pass in milliseconds, and nothing depends on how busy the machine is. Real
I/O still works and is always waited for first. The clock also stands still while a thread works for the loop
(``asyncio.to_thread``, ``run_in_executor``). A thread that reports by ``call_soon_threadsafe`` alone is not known here:
time may pass while it works.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from tirami.core.units import UnixMs

T = TypeVar("T")

EPOCH_MS = 1_800_000_000_000
"""Wall time when a virtual clock starts."""
_IDLE_S = 5.0
"""Real seconds without a timer, a ready file or a working thread after which nothing can happen any more."""


class Deadlock(RuntimeError):
    """Every task waits for another, and no timer is set."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time()`` starts at 0 and moves only by jumps, each to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        self._threads_at_work = 0
        super().__init__(_Jumps(self))
        # A jump may fall short of its timer by a rounding; after months of seconds that is more than a nanosecond.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds

    @property
    def has_threads_at_work(self) -> bool:
        return self._threads_at_work > 0

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._back_from_thread)
        return future

    def _back_from_thread(self, _: "asyncio.Future[Any]") -> None:
        self._threads_at_work -= 1


class _Jumps(selectors.DefaultSelector):
    """Real files first; where the loop would wait for a timer, the time is there."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._loop.has_threads_at_work:
            return super().select(None)
        if timeout is not None:
            self._loop.jump(timeout)
            return []
        ready = super().select(_IDLE_S)
        if not ready:
            raise Deadlock("every task waits, and no timer is set")
        return ready


class VirtualClock:
    """The time of the running loop as a :class:`tirami.core.clock.Clock`."""

    def __init__(self, epoch_ms: int = EPOCH_MS) -> None:
        self._epoch_ms = epoch_ms

    def now_ms(self) -> UnixMs:
        return UnixMs(self._epoch_ms + round(self.monotonic() * 1000))

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """As :func:`asyncio.run`, in virtual time. Raises :class:`Deadlock` when nothing can happen any more."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
