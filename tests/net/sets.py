"""Sets of record ids and two sides that talk until they are done."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from tirami.ledger.columns import RecordIds
from tirami.net.idset import IdSet
from tirami.net.reconciliation import Reconciliation
from tirami.proto.reconciliation import MAX_MESSAGE


def name(number: int) -> bytes:
    return sha256(number.to_bytes(8)).digest()


def idset(names: Iterable[bytes]) -> IdSet:
    ids = RecordIds()
    return IdSet(ids, [ids.add(one) for one in names])


@dataclass
class Ended:
    """What both sides know at the end, and what it cost."""

    messages: int = 0
    sent: int = 0
    largest: int = 0
    lacking: list[list[bytes]] = field(default_factory=lambda: [[], []])
    surplus: list[list[bytes]] = field(default_factory=lambda: [[], []])


def reconciled(first: IdSet, second: IdSet) -> Ended:
    ended, sides = Ended(), (Reconciliation(first), Reconciliation(second))
    message: bytes | None = sides[0].begin()
    finished = [False, False]
    while message is not None:
        ended.messages += 1
        ended.sent += len(message)
        ended.largest = max(ended.largest, len(message))
        assert len(message) <= MAX_MESSAGE
        turn = ended.messages % 2
        step = sides[turn].step(message)
        assert not finished[1 - turn] or step.reply is None, "who is told that it is over is told nothing more"
        ended.lacking[turn] += step.lacking
        ended.surplus[turn] += step.surplus
        finished[turn] = step.finished
        message = step.reply
    assert finished[ended.messages % 2]
    return ended
