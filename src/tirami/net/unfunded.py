"""Records nothing covers yet: kept, because they may be covered later, but bounded and charged (PROTOCOL B16)."""

from collections import Counter
from collections.abc import Callable
from typing import Final

OF_PAYER: Final = 64
OF_PEER: Final = 4_096
IN_ALL: Final = 65_536
SWEEP_S: Final = 1.0
"""The list is gone through no oftener than this."""


class Unfunded:
    """The list of them. Keys cost nothing, so there is a bound for all payers and peers together.

    Args:
        settled: whether a record needs no place here any more: it is covered now, or gone.
    """

    def __init__(self, settled: Callable[[bytes], bool]) -> None:
        self._settled = settled
        self._records: dict[bytes, tuple[bytes, bytes | None]] = {}
        self._payers: Counter[bytes] = Counter()
        self._peers: Counter[bytes] = Counter()
        self._swept_s = -SWEEP_S

    def __len__(self) -> int:
        return len(self._records)

    def take(self, record_id: bytes, payer: bytes, peer: bytes | None, now_s: float) -> bool:
        """A place for a record of this payer, charged to the peer that brought it; ``False`` when there is none.

        One that has a place keeps it.
        """
        if record_id in self._records:
            return True
        if not self._room(payer, peer):
            if now_s - self._swept_s < SWEEP_S:
                return False
            self._swept_s = now_s
            self._sweep()
            if not self._room(payer, peer):
                return False
        self._records[record_id] = payer, peer
        self._payers[payer] += 1
        if peer is not None:
            self._peers[peer] += 1
        return True

    def _room(self, payer: bytes, peer: bytes | None) -> bool:
        of_peer = 0 if peer is None else self._peers[peer]
        return self._payers[payer] < OF_PAYER and of_peer < OF_PEER and len(self._records) < IN_ALL

    def _sweep(self) -> None:
        kept = {name: whose for name, whose in self._records.items() if not self._settled(name)}
        self._records = kept
        self._payers = Counter(payer for payer, _ in kept.values())
        self._peers = Counter(peer for _, peer in kept.values() if peer is not None)
