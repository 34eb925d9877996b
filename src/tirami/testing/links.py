"""The way between two nodes of a :class:`~tirami.testing.network.MemoryNetwork`: how long things take, what is lost."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

PACKET = 1200
"""Bytes of a packet: what a QUIC packet carries on any path (RFC 9000, 14.1)."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a way behaves, the same in both directions.

    Attributes:
        delay_s: seconds one way.
        jitter_s: up to this much more, evenly, for each piece.
        loss: share of packets lost, 0 ≤ loss < 1. As in QUIC a stream loses no byte by it: a lost packet is sent again
            after one and a half round trips, then twice as long, and what follows on the same stream waits for it.
        bandwidth: bytes a second in each direction, for everything on the way; ``None`` for no bound.
        lifetime_s: mean time after which a connection breaks of itself, exponentially distributed; ``None`` for never.
        idle_s: seconds without any way after which both ends give a connection up (QUIC's idle timeout).
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    bandwidth: float | None = None
    lifetime_s: float | None = None
    idle_s: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= self.loss < 1 and self.delay_s >= 0 and self.jitter_s >= 0):
            raise ValueError("a delay is not negative and a loss is at least 0 and below 1; all is lost by a cut")

    @property
    def rtt_s(self) -> float:
        return 2 * self.delay_s + self.jitter_s


@dataclass(slots=True)
class Traffic:
    """What was handed over: writes, their bytes, and packets that had to be sent again."""

    messages: int = 0
    bytes: int = 0
    lost_packets: int = 0


@dataclass(eq=False)
class Way:
    """One direction between two nodes. What would arrive while it is cut waits, and sets out again when it heals."""

    link: Link
    chance: Random
    total: Traffic
    """The network's own counters."""
    traffic: Traffic = field(default_factory=Traffic)
    cut: bool = False
    _free_at: float = 0.0
    _held: list[tuple[int, Callable[[], None]]] = field(default_factory=list)

    def count(self, size: int) -> None:
        """One message of ``size`` bytes was written."""
        for traffic in (self.traffic, self.total):
            traffic.messages += 1
            traffic.bytes += size

    def carry(self, size: int, arrive: Callable[[], None]) -> None:
        """Call ``arrive`` when ``size`` bytes are over there."""
        asyncio.get_running_loop().call_later(self._transit_s(size), self._land, size, arrive)

    def heal(self) -> None:
        self.cut = False
        held, self._held = self._held, []
        for size, arrive in held:
            self.carry(size, arrive)

    def _land(self, size: int, arrive: Callable[[], None]) -> None:
        if self.cut:
            self._held.append((size, arrive))
        else:
            arrive()

    def _transit_s(self, size: int) -> float:
        link = self.link
        seconds = link.delay_s + (self.chance.uniform(0, link.jitter_s) if link.jitter_s else 0.0)
        if link.bandwidth is not None:
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + size / link.bandwidth
            seconds += self._free_at - now
        packets, again_s = max(1, math.ceil(size / PACKET)), max(1.5 * link.rtt_s, 0.01)
        while link.loss and (packets := sum(self.chance.random() < link.loss for _ in range(packets))):
            self.traffic.lost_packets += packets
            self.total.lost_packets += packets
            seconds += again_s
            again_s *= 2
        return seconds
