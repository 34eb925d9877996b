"""The last denials of the gate, with reasons. Kept in memory: they change no decision."""

from collections import deque
from dataclasses import dataclass

from tirami.core.units import UnixMs

KEPT = 100


@dataclass(frozen=True, slots=True)
class Denial:
    """One spend that was refused.

    Attributes:
        account: who wanted to spend; empty where no account was asked about.
        amount: TRM wanted; ``None`` for a voucher of a session that was admitted before.
        code, message: of the error it was refused with.
    """

    at_ms: UnixMs
    account: bytes
    amount: int | None
    code: str
    message: str


class Denials:
    """The last hundred, of everybody and of each account: nobody's crowd pushes out somebody else's."""

    def __init__(self) -> None:
        self._all: deque[Denial] = deque(maxlen=KEPT)
        self._of: dict[bytes, deque[Denial]] = {}

    def note(self, denial: Denial) -> None:
        self._all.append(denial)
        self._of.setdefault(denial.account, deque(maxlen=KEPT)).append(denial)

    def latest(self, account: bytes | None = None) -> list[Denial]:
        """Newest first; of everybody when no account is given."""
        kept = self._all if account is None else self._of.get(account, ())
        return list(reversed(kept))
