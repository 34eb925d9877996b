"""A disk in the test's hands, under a real journal: writes wait while it is held and fail while it is full."""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import pytest

from tirami.ledger import Ledger

T = TypeVar("T")


class Disk:
    """``full`` refuses everything, ``refuse`` the group with that number; ``groups`` counts them."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write = ledger._journal._write
        self._loop = asyncio.get_running_loop()
        self._free = threading.Event()
        self._free.set()
        self.full = False
        self.refuse: int | None = None
        self.groups = 0
        self.writing = asyncio.Event()
        """Set when a group has come to a held disk."""
        monkeypatch.setattr(ledger._journal, "_write", self._arrives)
        monkeypatch.setattr(ledger._journal, "writable", lambda: not self.full)

    def hold(self) -> None:
        self.writing.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def _arrives(self, rows: list[Any]) -> None:
        if not self._free.is_set():
            self._loop.call_soon_threadsafe(self.writing.set)
            self._free.wait(20)
        self.groups += 1
        if self.full or self.groups == self.refuse:
            raise OSError(errno.ENOSPC, "no space left on device")
        self._write(rows)


class Inline(Executor):
    """Runs work where it is submitted, so that the steps of the event loop can be counted."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def without_threads(ledger: Ledger) -> None:
    """From now on the ledger writes and signs inside the event loop."""
    for owner, name in ((ledger._journal, "_executor"), (ledger.payables._countersigner, "_thread")):
        getattr(owner, name).shutdown()
        setattr(owner, name, Inline())
