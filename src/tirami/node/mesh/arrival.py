"""What comes of the invitation a node was started with, in words for whoever started it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from tirami.core.keys import PublicKey
from tirami.ledger import Ledger

LINE_S: Final = 15.0
"""How long the welcome line is waited for once the invitation was taken: it comes as a record, as all others do."""
LOOK_S: Final = 0.1


class Arrival:
    """One newcomer.

    Args:
        own: its key.

    Attributes:
        begun: whether it came by invitation at all.
    """

    def __init__(self, ledger: Ledger, own: PublicKey) -> None:
        self._ledger = ledger
        self._own = own
        self._events: asyncio.Queue[str | None] = asyncio.Queue()
        self._away = False
        self.begun = False

    def unreached(self, reason: str) -> None:
        """Who invited was called in vain; only the first time is news."""
        if not self._away:
            self._away = True
            self._events.put_nowait(f"Who invited is not reached, and called again: {reason}")

    def refused(self, reason: str) -> None:
        text = f"The invitation was not taken: {reason}."
        if not self._ledger.state.book.limit(self._own):
            text += " This node is on the network, but has no credit and can buy nothing."
        text += " Ask for a new invitation; while this node runs, `tirami join TOKEN` hands it over."
        self._events.put_nowait(text)
        self._events.put_nowait("")

    def taken(self) -> None:
        self._events.put_nowait(None)

    async def told(self) -> AsyncIterator[str]:
        """Each line as it comes, to the last: what was granted, or why nothing was. Nothing without an invitation."""
        while self.begun:
            event = await self._events.get()
            if event is None:
                yield await self._granted()
            elif event:
                yield event
            if not event:
                return

    async def _granted(self) -> str:
        state, loop = self._ledger.state, asyncio.get_running_loop()
        end_s = loop.time() + LINE_S
        while not state.book.limit(self._own) and loop.time() < end_s:
            await asyncio.sleep(LOOK_S)
            state = self._ledger.state
        limit, due_ms = state.book.limit(self._own), state.line_due.get(self._own, 0)
        if not limit:
            return "The invitation was taken. No welcome line has come with it: who invited gives none, or not yet."
        until = f"{datetime.fromtimestamp(due_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        return f"The invitation was taken. This node has a welcome line: {limit} TRM to spend, until {until}."
