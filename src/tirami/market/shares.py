"""Places in a bounded table, shared out among those who bring what is kept there.

Whoever is connected has a place that nothing brought from elsewhere takes. All else counts for who brought it: within a
share of its own, and of the largest share first where all together are too many. So whoever brings a flood displaces
the flood.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator

_CONNECTED = b""
"""The share of those that are connected."""


class Shares:
    """Keys and the size of what is kept of each, the least recently heard of first.

    Args:
        most_keys: of all together.
        most: sizes of all together.
        most_brought: sizes, and so keys, of what one brings; what is empty counts as 1.
    """

    def __init__(self, most_keys: int, most: int, most_brought: int) -> None:
        self._most_keys = most_keys
        self._most = most
        self._most_brought = most_brought
        self._shares: dict[bytes, OrderedDict[bytes, int]] = {}
        self._sizes: Counter[bytes] = Counter()
        """Of each share."""
        self._owners: dict[bytes, bytes] = {}
        """Whose share a key is in."""
        self._connected: set[bytes] = set()
        self._size = 0

    def put(self, key: bytes, size: int, by: bytes) -> None:
        """Heard of now. What is known stays in its share: nobody takes it into another to displace it there."""
        owner = _CONNECTED if key in self._connected else self._owners.get(key, by)
        self.drop(key)
        self._shares.setdefault(owner, OrderedDict())[key] = max(1, size)
        self._owners[key] = owner
        self._add(owner, max(1, size))

    def drop(self, key: bytes) -> None:
        """Nothing is kept of it any more."""
        owner = self._owners.pop(key, None)
        if owner is None:
            return
        share = self._shares[owner]
        self._add(owner, -share.pop(key))
        if not share:
            del self._shares[owner], self._sizes[owner]

    def connect(self, key: bytes) -> None:
        """It is connected from now on, whether anything is kept of it or not."""
        self._connected.add(key)
        owner = self._owners.get(key)
        if owner is not None:
            self.put(key, self._shares[owner][key], owner)

    def disconnect(self, key: bytes) -> None:
        """It is not connected any more. What is kept of it is dropped."""
        self._connected.discard(key)
        self.drop(key)

    def release(self, key: bytes) -> None:
        """It is not connected any more. What is kept of it is a share of its own."""
        self._connected.discard(key)
        owner = self._owners.get(key)
        if owner is not None:
            size = self._shares[owner][key]
            self.drop(key)
            self.put(key, size, key)

    def excess(self, by: bytes) -> Iterator[bytes]:
        """Keys that have no place after ``by`` brought one; each is to be dropped before the next is asked for."""
        while self._sizes[by] > self._most_brought:
            yield next(iter(self._shares[by]))
        while self._size > self._most or len(self._owners) > self._most_keys:
            yield self._next_of_all()

    def _next_of_all(self) -> bytes:
        brought = [owner for owner in self._shares if owner != _CONNECTED]
        if brought:
            return next(iter(self._shares[max(brought, key=self._sizes.__getitem__)]))
        connected = self._shares[_CONNECTED]
        return max(connected, key=connected.__getitem__)

    def _add(self, owner: bytes, size: int) -> None:
        self._sizes[owner] += size
        self._size += size
