"""Peers this node stays with: each is called until it answers, and again when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

import structlog

from tirami.core.clock import Clock
from tirami.core.errors import MeshError, PeerUnreachable
from tirami.core.keys import PublicKey
from tirami.net.address import PeerAddress

_log = structlog.get_logger()
REDIAL_S: Final = 0.5
LONGEST_REDIAL_S: Final = 2.0
"""Between two calls of a node that is not reached: with one the outage swallowed, less than 5 s after its end."""
LONGEST_REFUSED_S: Final = 30.0
"""Between two calls of a node that is there and does not want this one."""
STEADY_S: Final = 10.0
"""A connection that held so long was a good one: its loss is no reason to wait for long."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A call in vain of a peer this node stays with.

    Attributes:
        reason: why no connection came of it.
        again_s: monotonic seconds when it is called again.
    """

    reason: str
    again_s: float


class Kept:
    """Whom this node stays with, and how the calls go.

    Args:
        connect: to the peer at an address, where it is not connected yet. Raises ``MeshError``.
        lost: returns when no connection to a peer is left.
        random: spreads the calls of many.
    """

    def __init__(
        self,
        connect: Callable[[PeerAddress], Awaitable[object]],
        lost: Callable[[PublicKey], Awaitable[None]],
        clock: Clock,
        random: Random,
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._clock = clock
        self._random = random
        self._addresses: dict[PublicKey, PeerAddress] = {}
        self._missed: dict[PublicKey, Missed] = {}
        self._leaving = False

    @property
    def addresses(self) -> Mapping[PublicKey, PeerAddress]:
        return MappingProxyType(self._addresses)

    @property
    def missed(self) -> Mapping[PublicKey, Missed]:
        """The last call in vain of each that did not answer since."""
        return MappingProxyType(self._missed)

    def add(self, address: PeerAddress) -> bool:
        """Whether it is new: then :meth:`stay` is to be run for it."""
        if address.key in self._addresses:
            return False
        self._addresses[address.key] = address
        return True

    def met(self, key: PublicKey) -> None:
        """It is connected, whoever called."""
        self._missed.pop(key, None)

    def leave(self) -> None:
        """Whoever is lost from now on is not called again."""
        self._leaving = True

    async def stay(self, address: PeerAddress) -> None:
        """Call this one until it answers, and again when it is lost; until this node leaves, or cancelled."""
        pause = REDIAL_S
        while not self._leaving:
            failure = ""
            try:
                await self._connect(address)
            except (PeerUnreachable, TimeoutError) as error:
                failure, longest = str(error) or "no answer in time", LONGEST_REDIAL_S
                self._tell(address.key, "peer_unreachable", failure)
            except MeshError as error:
                failure, longest = str(error), LONGEST_REFUSED_S
                self._tell(address.key, "peer_refuses", failure)
            else:
                met, longest = self._clock.monotonic(), LONGEST_REFUSED_S
                await self._lost(address.key)
                if self._clock.monotonic() - met > STEADY_S:
                    pause = REDIAL_S
            pause = min(longest, pause)
            wait_s = pause * self._random.uniform(0.75, 1.0)
            if failure:
                self._missed[address.key] = Missed(failure, self._clock.monotonic() + wait_s)
            await asyncio.sleep(wait_s)
            pause *= 2

    def _tell(self, key: PublicKey, event: str, reason: str) -> None:
        """Once for each reason in a row: it is called every few seconds. No news is what a leaving node misses."""
        before = self._missed.get(key)
        known = self._leaving or (before is not None and before.reason == reason)
        (_log.debug if known else _log.info)(event, peer=key.hex(), reason=reason)
