"""Range-based set reconciliation: two sides exchange messages until each knows what the other has and it lacks.

Whoever is sent an unequal fingerprint takes the range apart: many ids into 16 parts with fingerprints, few into a
listing. Whoever is sent a listing answers with the difference. A range is in the hands of one side at a time, so every
side's work is a stack of ranges, the smallest on top; what does not fit into a message waits for the next. Messages are
O(log n) deep, and of a number that grows with the difference only.

Pure: no transport, no clock. Source: A. Meyer, "Range-Based Set Reconciliation" (2022); the fingerprints are those of
Negentropy (additive, with the count, hashed). Sets may grow while it runs; what comes late is found the next time.
"""

from dataclasses import dataclass, field
from itertools import islice

from tirami.core.errors import InvalidReconciliation
from tirami.net.idset import NOTHING, IdSet
from tirami.proto.reconciliation import (
    MAX_IDS,
    MAX_MESSAGE,
    MAX_RANGES,
    Difference,
    Fingerprint,
    Listing,
    Range,
    ReconciliationMessage,
    decode_message,
    encode_message,
)

PARTS = 16
"""Into how many a range is taken apart."""
FEW = 32
"""So many ids are listed rather than taken apart."""
MAX_MESSAGES = 4096
"""Most messages one side takes: enough for two sets that have a million ids and none in common."""

MAX_WORK = 32 * MAX_RANGES
"""Most ranges that wait for an answer. A stack is as deep as sets are cut, and has a message's worth at each depth:
two honest sets of 2³² ids stay below half of it."""
EFFORT = 32 * PARTS
"""Most fingerprints made for one message: some twenty milliseconds. What is left waits for the next, on either side."""
_ID, _RANGE = 34, 24
"""Bytes of an id and of a range without bounds and ids, as MessagePack has them, at most."""
_LONGEST_RANGE = _RANGE + 2 * 32


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one message.

    Attributes:
        reply: the next message to send; ``None`` when there is nothing to say.
        lacking: ids the other side has and this one lacks.
        surplus: ids this side has and the other lacks.
        finished: neither side will say more after the reply.
        effort: fingerprints made for it, at most about :data:`EFFORT`.
    """

    reply: bytes | None
    lacking: tuple[bytes, ...]
    surplus: tuple[bytes, ...]
    finished: bool
    effort: int


@dataclass(slots=True)
class _Turn:
    """The message being written and what is learned meanwhile."""

    ranges: list[Range] = field(default_factory=list)
    lacking: list[bytes] = field(default_factory=list)
    surplus: list[bytes] = field(default_factory=list)
    effort: int = 0
    """Fingerprints made for it."""
    _ids: int = 0
    _bytes: int = 16
    """Never less than the message is long."""

    @property
    def room(self) -> int:
        """Ids that a further range may have."""
        bytes_left = MAX_MESSAGE - self._bytes - _LONGEST_RANGE
        if len(self.ranges) == MAX_RANGES or bytes_left < 0:
            return 0
        return min(MAX_IDS - self._ids, bytes_left // _ID)

    def take(self, *parts: Range) -> bool:
        """Put in all of ``parts``, or none when they do not fit."""
        ids = self._ids + sum(map(_ids_in, parts))
        size = self._bytes + sum(_RANGE + len(part.lower) + len(part.upper) + _ID * _ids_in(part) for part in parts)
        if len(self.ranges) + len(parts) > MAX_RANGES or ids > MAX_IDS or size > MAX_MESSAGE:
            return False
        self.ranges += parts
        self._ids, self._bytes = ids, size
        return True


def _ids_in(part: Range) -> int:
    match part:
        case Listing(ids=ids):
            return len(ids)
        case Difference(offered=offered, wanted=wanted):
            return len(offered) + len(wanted)
    return 0


class Reconciliation:
    """One side of one reconciliation. The initiator calls :meth:`begin` once; then each feeds :meth:`step`."""

    def __init__(self, ids: IdSet, max_messages: int = MAX_MESSAGES) -> None:
        self._ids = ids
        self._left = max_messages
        self._work: list[Fingerprint | Listing] = []

    def begin(self) -> bytes:
        """The initiator's first message: its listing where it has few ids, else one fingerprint of them all."""
        few = tuple(islice(self._ids.between(), FEW + 1))
        whole = Listing(b"", b"", few) if len(few) <= FEW else Fingerprint(b"", b"", self._ids.fingerprint())
        return encode_message(ReconciliationMessage((whole,), more=False))

    def step(self, data: bytes) -> Step:
        """Take one message of the other side.

        Raises:
            InvalidReconciliation: the other side broke a rule; end the session, nothing learned before is wrong.
        """
        if not self._left:
            raise InvalidReconciliation("this reconciliation does not end", param="message")
        self._left -= 1
        message, turn = decode_message(data), _Turn()
        for part in reversed(message.ranges):
            if isinstance(part, Difference):
                self._learn(part, turn)
            else:
                self._work.append(part)
        while self._work and self._answer(turn):
            pass
        ranges, more = tuple(sorted(turn.ranges, key=lambda part: part.lower)), bool(self._work)
        if len(self._work) > MAX_WORK:
            raise InvalidReconciliation("it asks for more than can be answered", param="ranges")
        reply = encode_message(ReconciliationMessage(ranges, more)) if ranges or more or message.more else None
        open_ = more or message.more or any(not isinstance(part, Difference) for part in ranges)
        return Step(reply, tuple(turn.lacking), tuple(turn.surplus), not open_, turn.effort)

    def _learn(self, part: Difference, turn: _Turn) -> None:
        if not all(wanted in self._ids for wanted in part.wanted):
            raise InvalidReconciliation("it wants what it was not told of", param="wanted")
        turn.surplus += part.wanted
        turn.lacking += (offered for offered in part.offered if offered not in self._ids)

    def _answer(self, turn: _Turn) -> bool:
        """Answer the range on top of the stack; ``False``, and nothing changed, when that does not fit any more."""
        if turn.effort >= EFFORT:
            return False
        part = self._work[-1]
        lower, upper = part.lower, part.upper
        if isinstance(part, Listing):
            return self._compare(part, turn)
        if part.fingerprint == NOTHING:
            return self._compare(Listing(lower, upper, ()), turn)
        turn.effort += 1
        if part.fingerprint == self._ids.fingerprint(lower, upper):
            self._work.pop()
            return True
        turn.effort += 1
        if self._ids.count(lower, upper) <= FEW:
            fits = turn.take(Listing(lower, upper, tuple(self._ids.between(lower, upper))))
        else:
            turn.effort += PARTS
            fits = turn.take(*(Fingerprint(*part) for part in self._ids.parts(lower, upper, PARTS)))
        if fits:
            self._work.pop()
        return fits

    def _compare(self, listing: Listing, turn: _Turn) -> bool:
        """Answer as much of a listing as fits; what is left of its range stays on the stack."""
        room = turn.room
        if not room:
            return False
        self._work.pop()
        turn.effort += len(listing.ids) // PARTS  # looking up that many costs about as much
        theirs, upper = set(listing.ids), listing.upper
        mine = tuple(islice(self._ids.between(listing.lower, upper), room + len(theirs) + 1))
        wanted = [one for one in listing.ids if one not in self._ids]
        offered = [one for one in mine if one not in theirs]
        different = sorted(wanted + offered)
        if len(different) > room:
            upper = different[room]
            self._work.append(Listing(upper, listing.upper, tuple(one for one in listing.ids if one >= upper)))
            wanted, offered = ([one for one in ids if one < upper] for ids in (wanted, offered))
        if wanted or offered:
            turn.take(Difference(listing.lower, upper, tuple(offered), tuple(wanted)))
            turn.lacking += wanted
            turn.surplus += offered
        return True
