"""Where connections come from: no neighbourhood of addresses fills a node (spec 01 W27, A-06)."""

from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from tirami.net.address import HostPort

PER_NEIGHBOURHOOD = 16
"""Connections from one /24 or /48."""


class Origins:
    """Counts connections; loopback and private addresses are one's own and count in all only."""

    def __init__(self, most: int, per_neighbourhood: int = PER_NEIGHBOURHOOD) -> None:
        self._most = most
        self._per_neighbourhood = per_neighbourhood
        self._near: Counter[bytes] = Counter()
        self._all = 0

    def full(self, remote: str | None) -> str | None:
        """Why one more from ``remote`` (``ip:port``, ``None`` for a relay) is not taken; ``None`` if it is."""
        if self._all >= self._most:
            return f"{self._most} peers are connected"
        near = neighbourhood(remote)
        if near is not None and self._near[near] >= self._per_neighbourhood:
            return f"{self._per_neighbourhood} peers of this neighbourhood are connected"
        return None

    def enter(self, remote: str | None) -> None:
        self._all += 1
        if (near := neighbourhood(remote)) is not None:
            self._near[near] += 1

    def leave(self, remote: str | None) -> None:
        self._all -= 1
        if (near := neighbourhood(remote)) is not None:
            self._near[near] -= 1
            if self._near[near] <= 0:
                del self._near[near]


@lru_cache(maxsize=8_192)
def neighbourhood(remote: str | None) -> bytes | None:
    """The /24 of an IPv4 address, the /48 of an IPv6 one; ``None`` for private ones and for relays.

    Raises ``InvalidField`` for what is no ``host:port``.
    """
    if remote is None or "%" in remote:  # of one link only, which the library says of fe80::1%2
        return None
    ip = HostPort.parse(remote).ip
    if ip is None or not (address := ip_address(str(ip))).is_global:
        return None
    return address.packed[:6] if isinstance(address, IPv6Address) else address.packed[:3]
