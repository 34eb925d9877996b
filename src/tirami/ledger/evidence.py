"""What keys have signed about their own numbers, and the proof as soon as two pieces of it contradict (PROTOCOL B8).

Fed with everything a node sees; pure. It convicts exactly whom the second oracle of PROTOCOL.md convicts, and one more
lie of B8 (c): an open list that gives a session less than its acceptance did. Each piece costs O(log n), times 32 for
the open list of a total; for a payer that lists a session now and then not, times how often it changed its mind.

Of each key it remembers ``capacity`` totals, those with the largest numbers, and ``capacity`` debits, those with the
largest amounts: an understatement by more than the small ones that were forgotten is still found. Of each log it
remembers its newest heads. A key that is convicted is remembered by its proof alone. Of keys it remembers so many, the
most recently seen: keys cost nothing.
"""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tirami.core.errors import VerificationError
from tirami.ledger.totals import UNSTATED, Totals
from tirami.proto import Head, decode
from tirami.proto.fraud import CITED, MAX_CITED, Cited, FraudKind, build_fraud
from tirami.verify.claim import Claim, Series, claim_of
from tirami.verify.fraud import verify_fraud

CAPACITY = MAX_CITED - 1
"""Not more than a proof can cite."""
HEADS = 256
"""Heads remembered of one node."""
KEYS = 100_000
"""Keys remembered, and as many proofs; a contradiction that comes after its key was forgotten is found by others."""
NODES = 4_096
"""Nodes of which heads are remembered."""

Found = tuple[FraudKind, list[Cited]]


class Evidence:
    """The index of one network."""

    def __init__(self, network: str, capacity: int = CAPACITY, keys: int = KEYS) -> None:
        self._network = network
        self._capacity = min(capacity, CAPACITY)
        self._most = keys
        self._keys: OrderedDict[bytes, _Promises] = OrderedDict()
        self._heads: OrderedDict[bytes, dict[tuple[bytes, int], Cited]] = OrderedDict()
        self._proofs: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def proofs(self) -> Mapping[bytes, bytes]:
        """The first proof found against each guilty key."""
        return MappingProxyType(self._proofs)

    def see(self, piece: Cited) -> bytes | None:
        """Take in one signed record; order and repetition do not matter.

        Args:
            piece: canonical, and its signature has been verified; this is not done again.

        Returns:
            A fraud proof, when this piece makes the first one against its key.
        """
        record = decode(CITED[piece.kind], piece.body)
        if getattr(record, "network", None) != self._network:
            return None
        if isinstance(record, Head):
            return self._head(record, piece)
        claim = claim_of(record)
        if claim is None or claim.series[0] in self._proofs:
            return None
        key = claim.series[0]
        promises = self._keys.get(key)
        if promises is None:
            promises = self._keys[key] = _Promises(self._capacity)
        _keep_newest(self._keys, key, self._most)
        found = promises.see(claim, piece)
        return self._convict(key, *found) if found else None

    def see_path(self, older: Cited, newer: Cited, root: bytes, path: Sequence[bytes]) -> bytes | None:
        """A peer's answer to "how did that log grow": a proof, if ``path`` leads to the newer head from another root.

        Args:
            root: what the newer head's tree has for the older head's size, by that answer.
            path: RFC 6962 consistency path from there. Nothing is believed; a wrong or missing path proves nothing.
        """
        try:
            key = decode(Head, older.body).node
            proof = build_fraud("rewritten-log", self._network, key, [older, newer], [root, *path])
            verify_fraud(proof)
        except VerificationError:
            return None
        return self._keep(key, proof)

    def _head(self, head: Head, piece: Cited) -> bytes | None:
        if head.node in self._proofs:
            return None
        heads = self._heads.setdefault(head.node, {})
        _keep_newest(self._heads, head.node, NODES)
        known = heads.setdefault((head.log_id, head.size), piece)
        if len(heads) > HEADS:
            del heads[next(iter(heads))]
        if decode(Head, known.body).root == head.root:
            return None
        return self._convict(head.node, "two-heads", _ascending(known, piece))

    def _convict(self, key: bytes, kind: FraudKind, pieces: Sequence[Cited]) -> bytes | None:
        return self._keep(key, build_fraud(kind, self._network, key, pieces))

    def _keep(self, key: bytes, proof: bytes) -> bytes | None:
        if key in self._proofs:
            return None
        self._proofs[key] = proof
        _keep_newest(self._proofs, key, self._most)
        self._keys.pop(key, None)
        self._heads.pop(key, None)
        return proof


class _Promises:
    """Everything remembered of one key."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._series: dict[Series, _Numbers] = {}
        self._stated: list[tuple[int, int, int, Series]] = []
        """Heap of totals by incarnation, period and number: the smallest goes first."""
        self._debits: list[tuple[int, int, Series]] = []
        """Heap of debits by amount; entries of amounts that have been raised since are left in it."""
        self._debit_count = 0

    def see(self, claim: Claim, piece: Cited) -> Found | None:
        numbers = self._series.setdefault(claim.series, _Numbers())
        _, _, incarnation, period = claim.series
        stated = claim.settled is not None and claim.number not in numbers.stated
        known = claim.number in numbers.debits
        found = numbers.see(claim, piece)
        if found:
            return found
        if stated:
            heapq.heappush(self._stated, (incarnation, period, claim.number, claim.series))
        if claim.amount:
            self._debit_count += not known
            heapq.heappush(self._debits, (claim.amount, claim.number, claim.series))
        self._forget()
        return None

    def _forget(self) -> None:
        while len(self._stated) > self._capacity:
            *_, number, series = heapq.heappop(self._stated)
            self._series[series].forget_total(number)
            self._drop(series)
        while self._debit_count > self._capacity:
            amount, number, series = heapq.heappop(self._debits)
            if self._series[series].forget_debit(number, amount):
                self._debit_count -= 1
                self._drop(series)
        if len(self._debits) > 4 * self._capacity:
            live = {entry for entry in self._debits if self._series[entry[2]].amount(entry[1]) == entry[0]}
            self._debits = sorted(live)

    def _drop(self, series: Series) -> None:
        numbers = self._series[series]
        if not numbers.stated and not numbers.debits:
            del self._series[series]
            self._debits = sorted(entry for entry in self._debits if entry[2] != series)


class _Numbers:
    """One series: the totals, the highest debit of each number, and where each number is listed as open."""

    def __init__(self) -> None:
        self.stated: dict[int, tuple[Claim, Cited]] = {}
        self.debits: dict[int, tuple[Claim, Cited]] = {}
        self._listed: dict[int, dict[int, int]] = {}
        """Ceilings of a session by the number of the total that lists it."""
        self._order: list[int] = []
        """Numbers of ``stated``, ascending."""
        self._totals = Totals()

    def amount(self, number: int) -> int:
        return self.debits[number][0].amount if number in self.debits else 0

    def see(self, claim: Claim, piece: Cited) -> Found | None:
        if claim.settled is not None:
            known = self.stated.setdefault(claim.number, (claim, piece))
            if known[1].body != piece.body:
                return "same-number", _ascending(known[1], piece)
            if known[0] is claim:
                self._state(claim, claim.settled)
        if claim.amount > self.amount(claim.number):
            self._debit(claim, piece)
        return self._over_ceiling(claim, piece) or self._over_total()

    def forget_total(self, number: int) -> None:
        claim, _ = self.stated.pop(number)
        del self._order[bisect_left(self._order, number)]
        for session in claim.open:
            listed = self._listed[session]
            del listed[number]
            if not listed:
                del self._listed[session]
        self._totals.state(number, UNSTATED)
        self._discard(number)

    def forget_debit(self, number: int, amount: int) -> bool:
        """``False`` when this is not its amount any more."""
        if self.amount(number) != amount:
            return False
        del self.debits[number]
        self._raise(number, -amount)
        self._discard(number)
        return True

    def _state(self, claim: Claim, settled: int) -> None:
        insort(self._order, claim.number)
        for session, ceiling in claim.open.items():
            self._listed.setdefault(session, {})[claim.number] = ceiling
        spared = sum(self.amount(session) for session in claim.open if session < claim.number)
        self._totals.state(claim.number, settled + spared - self._totals.below(claim.number))

    def _debit(self, claim: Claim, piece: Cited) -> None:
        more = claim.amount - self.amount(claim.number)
        self.debits[claim.number] = claim, piece
        self._raise(claim.number, more)

    def _raise(self, number: int, more: int) -> None:
        """Every larger total that does not list ``number`` as open has to cover it.

        An honest payer lists a session in one run of totals: all behind the run are one shift.
        """
        self._totals.raise_amount(number, more)
        edge = number
        for listing in sorted(total for total in self._listed.get(number, ()) if total > number):
            last = bisect_left(self._order, listing) - 1
            if last >= 0 and self._order[last] > edge:
                self._totals.shift(edge, -more)
                self._totals.shift(self._order[last], more)
            edge = listing
        self._totals.shift(edge, -more)

    def _discard(self, number: int) -> None:
        if number not in self.stated and number not in self.debits:
            self._totals.discard(number)

    def _over_ceiling(self, claim: Claim, piece: Cited) -> Found | None:
        """A session and an open list that gives it too little, either of them being the new piece."""
        for total, ceiling in self._listed.get(claim.number, {}).items():
            if ceiling < claim.most:
                return "ceiling", [self.stated[total][1], piece]
        for session, ceiling in claim.open.items():
            for known, cited in self._known(session):
                if ceiling < known.most:
                    return "ceiling", [piece, cited]
        return None

    def _known(self, number: int) -> Iterator[tuple[Claim, Cited]]:
        for known in (self.stated, self.debits):
            if number in known:
                yield known[number]

    def _over_total(self) -> Found | None:
        slack, number = self._totals.lowest()
        if slack >= 0:
            return None
        claim, piece = self.stated[number]
        assert claim.settled is not None
        covered = (
            debit for debit, _ in self.debits.values() if debit.number < number and debit.number not in claim.open
        )
        chosen, total = [], 0
        for debit in sorted(covered, key=lambda debit: -debit.amount):
            chosen.append(debit.number)
            total += debit.amount
            if total > claim.settled:
                break
        return "totals", [piece, *(self.debits[debit][1] for debit in sorted(chosen))]


def _keep_newest(remembered: "OrderedDict[bytes, Any]", key: bytes, most: int) -> None:
    remembered.move_to_end(key)
    while len(remembered) > most:
        remembered.popitem(last=False)


def _ascending(first: Cited, second: Cited) -> list[Cited]:
    return sorted((first, second), key=lambda piece: piece.body)
