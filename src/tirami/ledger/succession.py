"""Which keys have ended, and who follows them (A-31). Pure; the order in which rotations arrive does not matter.

A key that ended promises nothing any more: gates refuse it, records it signed before stay what they are. Whoever stole
a key can sign another rotation, so a key with two different successors has none: only people can tell which is right.
"""

from tirami.proto import NO_SUCCESSOR, Rotation, SignedBody

CONTESTED = 2
"""Different successors kept of one key: more say nothing new."""


class Succession:
    """All rotations known, by the key that ended."""

    def __init__(self) -> None:
        self._orders: dict[bytes, dict[bytes, tuple[Rotation, SignedBody]]] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def says_more(self, rotation: Rotation) -> bool:
        """Whether this rotation would change anything."""
        known = self._orders.get(rotation.key, {})
        return rotation.successor not in known and NO_SUCCESSOR not in known and len(known) < CONTESTED

    def add(self, rotation: Rotation, order: SignedBody) -> None:
        if self.says_more(rotation):
            self._orders.setdefault(rotation.key, {})[rotation.successor] = rotation, order

    def ended(self, key: bytes) -> bool:
        return key in self._orders

    def orders(self, key: bytes) -> list[tuple[Rotation, SignedBody]]:
        """What a key ordered about itself, at most ``CONTESTED`` times."""
        return list(self._orders.get(key, {}).values())

    def names(self, key: bytes, successor: bytes) -> bool:
        """Whether ``key`` ordered that ``successor`` follow it, contested or not: its owner knows who is right."""
        return successor in self._orders.get(key, {})

    def heir(self, key: bytes) -> bytes | None:
        """The key that acts for this one now: itself, or the end of its chain; ``None`` when revoked or contested."""
        passed: set[bytes] = set()
        while key in self._orders:
            successors = self._orders[key]
            if len(successors) != 1 or NO_SUCCESSOR in successors or key in passed:
                return None
            passed.add(key)
            key = next(iter(successors))
        return key

    def line(self, key: bytes) -> set[bytes]:
        """The key and all that were ever named to follow it, contested or not."""
        found: set[bytes] = set()
        ahead = [key]
        while ahead:
            if (one := ahead.pop()) not in found and one != NO_SUCCESSOR:
                found.add(one)
                ahead += self._orders.get(one, ())
        return found

    def too_late(self, key: bytes, incarnation: int, number: int) -> bool:
        """Whether a debit of the key lies beyond the last one it named itself, by the most generous of its orders."""
        orders = self._orders.get(key)
        if not orders:
            return False
        return (incarnation, number) > max((one.last_incarnation, one.last_number) for one, _ in orders.values())

    def newest(self, most: int) -> list[SignedBody]:
        """Orders to tell, those known last at the end."""
        return [order for known in self._orders.values() for _, order in known.values()][-most:]
