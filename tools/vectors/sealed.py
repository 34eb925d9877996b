"""Starts of a journal whose old entries are in segments, for TIP-09."""

from collections.abc import Sequence
from dataclasses import replace

from tirami.ledger.journal import GENESIS
from tirami.ledger.segments import Segment
from tools.vectors.case import Case, case
from tools.vectors.entries import JOURNAL_KEY, Row, chained, files, journal_contents, segment_case, slot


def sealed_starts() -> list[Case]:
    rows = chained(journal_contents())
    size = len(rows)
    first = Segment.of(rows[:3], GENESIS, JOURNAL_KEY)
    second = Segment.of(rows[3:6], rows[2][4], JOURNAL_KEY)
    other = Segment.of(rows[3:6], bytes(32), JOURNAL_KEY)
    foreign = Segment.of(rows[3:6], rows[2][4], b"k" * 32)
    fifth = 4 * 4 + sum(len(row[3]) + 41 for row in rows[3:4]) + 50
    data = bytearray(second.data)
    data[fifth] ^= 1
    rest, everything = rows[6:], Segment.of(rows, GENESIS, JOURNAL_KEY)
    return [
        _start("six entries in two segments", [first, second], rest, {"entries": size}),
        _start("all entries in one segment", [everything], [], {"entries": size}),
        _start("a bit of a body in a segment", [first, replace(second, data=bytes(data))], rest, _corrupt(5)),
        _start("a seal", [first, replace(second, seal=bytes(32))], rest, _corrupt(4)),
        _start("a segment's chain hash", [first, replace(second, chain=bytes(32))], rest, _corrupt(4)),
        _start("a segment sealed after another entry", [first, other], rest, _corrupt(4)),
        _start("a segment sealed under another key", [first, foreign], rest, _corrupt(4)),
        _start("a segment taken out", [second], rest, _corrupt(1)),
        _start("an entry between segments and rows taken out", [first, second], rest[1:], _corrupt(7)),
        _start("the rows after the segments are gone", [first, second], [], {"error": "journal_rollback", "entry": 7}),
    ]


def _start(name: str, segments: Sequence[Segment], rest: Sequence[Row], expected: Case) -> Case:
    rows = chained(journal_contents())
    tip = slot(rows[-2]) + slot(rows[-1])
    sealed = [segment_case(segment) for segment in segments]
    return case(name, **files(rest), segments=sealed, tip=tip, accept_rollback=False, **expected)


def _corrupt(entry: int) -> Case:
    return {"error": "journal_corrupt", "entry": entry}
