"""Which debits of this node's keys its journal made itself, and which it did not (PROTOCOL B9).

A journal that was copied or restored does not know what its keys signed elsewhere, and the next totals would contradict
that. A debit that was not made here is enough to know; whoever shows one shows the key's own signature, so nobody's
mere word counts. Pure: a fold over holds, over records of this node's own payers, and over what peers have shown.
"""

from dataclasses import dataclass

from tirami.core.units import DAY_MS, Trm, UnixMs

RESTART_MS = 7 * DAY_MS
"""A node begins a new incarnation by itself at most once in this time."""


@dataclass(slots=True)
class _Run:
    """Numbers ``first`` … ``last`` of one incarnation, none left out."""

    incarnation: int
    first: int
    last: int


class Lineage:
    """What the journal made, by account. An issuer's quota is an account of its own."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.since_ms = UnixMs(0)
        """When the incarnation began; 0 for the first."""
        self._runs: dict[bytes, list[_Run]] = {}
        self._broken_off: dict[tuple[bytes, int, int], Trm] = {}
        """Sessions that a start found open, and what they were closed at: more was signed elsewhere, if it was."""
        self._elsewhere: dict[tuple[bytes, int, int], Trm] = {}
        self._newest = -1

    @property
    def lost(self) -> bool:
        """Whether a key of this node has signed elsewhere in this incarnation, or in a later one: sign nothing."""
        return self._newest >= self.incarnation

    @property
    def newest(self) -> int:
        """The latest incarnation in which something was signed elsewhere; -1 for none."""
        return self._newest

    def start(self, incarnation: int, at_ms: UnixMs) -> None:
        if incarnation != self.incarnation:
            self.incarnation, self.since_ms = incarnation, at_ms

    def make(self, account: bytes, incarnation: int, number: int) -> None:
        """This journal gives ``number`` to a debit."""
        runs = self._runs.setdefault(account, [])
        if runs and runs[-1].incarnation == incarnation and runs[-1].last + 1 == number:
            runs[-1].last = number
        else:
            runs.append(_Run(incarnation, number, number))

    def break_off(self, account: bytes, incarnation: int, number: int, amount: Trm) -> None:
        """A start found this session open and closed it at ``amount``: whether it went on elsewhere is not known."""
        self._broken_off[account, incarnation, number] = amount

    def made(self, account: bytes, incarnation: int, number: int, amount: int = 0) -> bool:
        """Whether this journal made the debit, and for so much."""
        if amount > self._broken_off.get((account, incarnation, number), amount):
            return False
        return any(
            run.incarnation == incarnation and run.first <= number <= run.last for run in self._runs.get(account, ())
        )

    def elsewhere(self, account: bytes, incarnation: int, number: int, amount: int = 0) -> Trm:
        """A debit that was not made here; returns by how much it raises what the account has settled."""
        self._newest = max(self._newest, incarnation)
        debit = account, incarnation, number
        known = self._elsewhere.get(debit, self._broken_off.get(debit, Trm(0)))
        if amount > known:
            self._elsewhere[debit] = Trm(amount)
        return Trm(max(0, amount - known))

    def may_restart(self, now_ms: int) -> bool:
        return self.incarnation == 0 or now_ms - self.since_ms >= RESTART_MS
