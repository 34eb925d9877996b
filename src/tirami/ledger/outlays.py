"""Outlays: what the owner's agent has spent today (UTC), task by task.

A fold over its holds, so that nothing can be lost between a spend and its sum: a session counts at its ceiling from the
entry that opens it, and at what was paid from the entry that ends it. It counts on the day it was opened, and only the
present day is kept.
"""

from dataclasses import dataclass, field
from typing import Final

from tirami.core.units import DAY_MS, Trm
from tirami.ledger.entries import Hold, HoldCaptured, HoldOpened, HoldOwed, HoldReleased
from tirami.ledger.holds import OpenHold

AGENT: Final = "agent"
"""Purpose of the agent's holds; each names its task as its request."""


@dataclass(slots=True)
class Outlays:
    """Change by :meth:`apply`; ask of the present day only, for the days before are forgotten."""

    _day: int = 0
    _held: int = 0
    _paid: int = 0
    _tasks: dict[str, int] = field(default_factory=dict)

    def apply(self, hold: Hold, session: OpenHold | None, at_ms: int) -> None:
        """``session``: the open one that ``hold`` is about, as it stood before it."""
        match hold:
            case HoldOpened(purpose=purpose) if purpose == AGENT:
                self._begin(at_ms // DAY_MS)
                self._held += hold.ceiling
                self._add(hold.request_id, hold.ceiling)
            case HoldCaptured() | HoldOwed() if session is not None:
                self._end(session, hold.amount)
            case HoldReleased() if session is not None:
                self._end(session, 0)

    def paid(self, now_ms: int) -> Trm:
        """What sessions opened today have cost that have ended."""
        return Trm(self._paid if self._is_today(now_ms) else 0)

    def held(self, now_ms: int) -> Trm:
        """The most that sessions opened today may cost that have not."""
        return Trm(self._held if self._is_today(now_ms) else 0)

    def of(self, task: str, now_ms: int) -> Trm:
        """Paid and held for one task today."""
        return Trm(self._tasks.get(task, 0) if self._is_today(now_ms) else 0)

    def _is_today(self, now_ms: int) -> bool:
        return now_ms // DAY_MS == self._day

    def _begin(self, day: int) -> None:
        if day != self._day:
            self._day, self._held, self._paid = day, 0, 0
            self._tasks.clear()

    def _end(self, session: OpenHold, amount: int) -> None:
        opened = session.opened
        if opened.purpose != AGENT or not self._is_today(session.opened_ms):
            return
        self._held -= opened.ceiling
        self._paid += amount
        self._add(opened.request_id, amount - opened.ceiling)

    def _add(self, task: str, amount: int) -> None:
        total = self._tasks.get(task, 0) + amount
        if total:
            self._tasks[task] = total
        else:
            self._tasks.pop(task, None)
