"""The highest debit this node has seen under each key, and where its journal has it (PROTOCOL B9).

Whoever lost its counter is told by those who remember. A newer incarnation is what the key's gates here go by: the old
one is refused from then on, and the new one begins without credit.
"""

from dataclasses import dataclass

from tirami.core.units import DAY_MS, UnixMs
from tirami.ledger.lineage import RESTART_MS

YOUNG_MS = DAY_MS
"""How long a new incarnation has no credit."""


@dataclass(slots=True)
class Sighting:
    """Debit ``number`` of ``incarnation`` stands in the journal at ``seq``; the incarnation was first seen then."""

    incarnation: int
    number: int
    seq: int
    since_ms: UnixMs


class Sightings:
    """By key; a fold over records and claims."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Sighting] = {}

    def get(self, key: bytes) -> Sighting | None:
        return self._keys.get(key)

    def see(self, key: bytes, incarnation: int, number: int, seq: int, at_ms: UnixMs) -> None:
        known = self._keys.get(key)
        if known is None:
            self._keys[key] = Sighting(incarnation, number, seq, at_ms)
        elif (incarnation, number) > (known.incarnation, known.number):
            if incarnation > known.incarnation:
                known.since_ms = at_ms
            known.incarnation, known.number, known.seq = incarnation, number, seq

    def young(self, key: bytes, now_ms: int) -> bool:
        """Whether the key's incarnation is too new for credit."""
        known = self._keys.get(key)
        return known is not None and known.incarnation > 0 and now_ms - known.since_ms < YOUNG_MS

    def objection(self, key: bytes, incarnation: int, now_ms: int) -> str | None:
        """Why nothing is taken from the key in this incarnation; ``None`` for no reason."""
        known = self._keys.get(key)
        if known is None or incarnation == known.incarnation:
            return None
        if incarnation < known.incarnation:
            return "this key has begun a newer incarnation"
        if known.incarnation > 0 and now_ms - known.since_ms < RESTART_MS:
            return "this key begins its second incarnation within 7 days"
        return None
