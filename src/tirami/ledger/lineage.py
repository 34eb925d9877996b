"""Which debits of this node's keys its journal made itself, and which it did not (PROTOCOL B9).

A journal that was copied or restored does not know what its keys signed elsewhere, and the next totals would contradict
that. A debit that was not made here is enough to know; whoever shows one shows the key's own signature, so nobody's
mere word counts. Pure: a fold over holds, over records of this node's own payers, and over what peers have shown.
"""

from dataclasses import dataclass
from typing import Final

from tirami.core.units import DAY_MS, Trm, UnixMs

RESTART_MS = 7 * DAY_MS
"""A node begins a new incarnation by itself at most once in this time."""
AHEAD_MS: Final = 3_650 * DAY_MS
"""Incarnations are milliseconds, and no copy of a journal has a clock so far ahead: what is signed there is a thief's.

Nobody outruns a thief, and the numbers of incarnations end: whoever followed would have none left under any key.
"""
_LAST: Final = (1 << 64) - 1


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
        self._newest: dict[bytes, int] = {}
        """The latest incarnation in which an account signed elsewhere, this one or a later one."""
        self._taken: set[bytes] = set()
        self._anew = False

    @property
    def lost(self) -> bool:
        """Whether a key of this node has signed elsewhere in this incarnation, or in a later one: sign nothing."""
        return self._anew or bool(self._newest)

    @property
    def newest(self) -> int:
        """The latest incarnation in which something was signed elsewhere, if not before this one; -1 for none."""
        return max(self._newest.values(), default=-1)

    def taken(self, account: bytes) -> bool:
        """Whether a thief signs with this key where no new incarnation gets past him: it signs nothing here."""
        return _key(account) in self._taken

    def says_more(self, account: bytes, incarnation: int) -> bool:
        """Whether a debit that was not made here would change anything."""
        return incarnation > self._newest.get(account, self.incarnation - 1) and not self.taken(account)

    def start(self, incarnation: int, at_ms: UnixMs) -> None:
        if incarnation != self.incarnation:
            self.incarnation, self.since_ms, self._anew = incarnation, at_ms, False
            self._newest = {account: newest for account, newest in self._newest.items() if newest >= incarnation}

    def give_up(self, key: bytes) -> None:
        """The node signs with this key no more: another has followed it, or a thief has it.

        What it signed elsewhere binds no other key. But who signed it may have been a newer copy of this journal, which
        knows more of the other accounts, too: if the counter was lost, they begin anew, at once.
        """
        self._anew |= self.lost
        self._newest = {account: newest for account, newest in self._newest.items() if _key(account) != key}

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

    def elsewhere(self, account: bytes, incarnation: int, number: int, at_ms: UnixMs, amount: int = 0) -> Trm:
        """A debit that was not made here; returns by how much it raises what the account has settled."""
        if self.says_more(account, incarnation):
            self._newest[account] = incarnation
            if incarnation > min(max(self.incarnation, at_ms) + AHEAD_MS, _LAST - 1):
                self._taken.add(_key(account))
                self.give_up(_key(account))
        debit = account, incarnation, number
        known = self._elsewhere.get(debit, self._broken_off.get(debit, Trm(0)))
        if amount > known:
            self._elsewhere[debit] = Trm(amount)
        return Trm(max(0, amount - known))

    def may_restart(self, now_ms: int) -> bool:
        if self.incarnation >= _LAST:
            return False
        return self._anew or self.incarnation == 0 or now_ms - self.since_ms >= RESTART_MS


def _key(account: bytes) -> bytes:
    """The key of an account, without the prefix of a quota."""
    return account[-32:]
