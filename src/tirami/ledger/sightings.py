"""The highest debit this node has seen under each key, the most it is known of, and where its journal has that (B9).

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
    """The highest debit of a key: ``number`` of ``incarnation``, for ``amount`` TRM, 0 while it is a mere promise."""

    incarnation: int
    number: int
    amount: int
    since_ms: UnixMs
    """When the incarnation was first seen."""
    seq: int
    """Where the journal has it."""
    claim_seq: int = 0
    """Where it has what the key signed last in a session with this node; 0 for never."""

    @property
    def shown(self) -> tuple[int, ...]:
        """Where it has what an older copy of the key's own journal cannot have.

        Numbers rise, and within a session amounts: whatever this node was given since such a copy was made, the last
        of it is either.
        """
        return (self.seq,) if self.claim_seq in (0, self.seq) else (self.seq, self.claim_seq)


class Sightings:
    """By key; a fold over records, claims and their vouchers."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Sighting] = {}

    def get(self, key: bytes) -> Sighting | None:
        return self._keys.get(key)

    def see(
        self,
        key: bytes,
        incarnation: int,
        number: int,
        seq: int,
        at_ms: UnixMs,
        amount: int = 0,
        *,
        claim: bool = False,
    ) -> None:
        """Note a debit that the journal has at ``seq``; with ``claim``, a step of a session with this node."""
        known = self._keys.get(key)
        if known is None:
            known = self._keys[key] = Sighting(incarnation, number, amount, at_ms, seq)
        elif (incarnation, number, amount) > (known.incarnation, known.number, known.amount):
            if incarnation > known.incarnation:
                known.since_ms = at_ms
            known.incarnation, known.number, known.amount, known.seq = incarnation, number, amount, seq
        if claim:
            known.claim_seq = seq

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
