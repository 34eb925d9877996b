"""Starts of a journal for TIP-09: what a node makes of the files it finds."""

from typing import Any, cast

from tests.proto import samples
from tests.proto.samples import AGENT, AT

from tirami.core.keys import journal_key
from tirami.ledger.entries import HoldCaptured
from tirami.ledger.journal import GENESIS
from tirami.proto import Envelope
from tools.vectors.case import Case, case, replaced
from tools.vectors.entries import COLUMNS, JOURNAL_KEY, Row, chained, files, journal_contents, slot


def starts() -> list[Case]:
    rows = chained(journal_contents())
    size = len(rows)

    def tip(first: int | None, second: int | None) -> bytes:
        return b"".join(bytes(512) if seq is None else slot(rows[seq - 1]) for seq in (first, second))

    def changed(place: int, **parts: Any) -> list[Row]:
        row = tuple(parts.get(name, value) for name, value in zip(COLUMNS, rows[place - 1], strict=True))
        return [*rows[: place - 1], cast(Row, row), *rows[place:]]

    def with_tip(other: list[Row], key: bytes = JOURNAL_KEY) -> tuple[list[Row], bytes]:
        return other, slot(other[-1], key) + bytes(512)

    last, torn = tip(size - 1, size), bytearray(tip(size - 1, size))
    torn[512 + 20] ^= 1
    both = bytearray(torn)
    both[20] ^= 1
    flipped = rows[4][3][:-1] + bytes([rows[4][3][-1] ^ 1])
    missing = [row for row in rows if row[0] != 4]
    foreign = journal_key(AGENT)
    empty_log = chained([entry for entry in journal_contents() if not isinstance(entry[1], Envelope | HoldCaptured)])
    other_root = chained(journal_contents(replaced(samples.HEAD, size=1)))
    strange_head = chained(journal_contents(signer=AGENT))
    cases: list[tuple[str, list[Row], bytes, bool, Case]] = [
        ("whole", rows, last, False, {"entries": size}),
        ("ahead of its tip: a crash between the two", rows, tip(size - 2, size - 1), False, {"entries": size}),
        ("one slot torn: the other counts", rows, bytes(torn), False, {"entries": size}),
        ("both slots damaged", rows, bytes(both), False, _rolled(0)),
        ("no tip", rows, b"", False, _rolled(0)),
        ("a tip of zeros", rows, bytes(1_024), False, _rolled(0)),
        ("no tip, accepted", rows, b"", True, {"entries": size}),
        ("a tip sealed by another node", rows, slot(rows[-1], foreign) + bytes(512), False, _rolled(0)),
        ("a bit of a body", changed(5, body=flipped), last, False, _corrupt(5)),
        ("a time", changed(3, at_ms=AT + 3), last, False, _corrupt(3)),
        ("a kind", changed(2, kind=1), last, False, _corrupt(2)),
        ("a chain hash", changed(6, chain=bytes(32)), last, False, _corrupt(6)),
        ("an entry taken out", missing, last, False, _corrupt(4)),
        ("chained under another key", *with_tip(chained(journal_contents(), foreign)), False, _corrupt(1)),
        ("an older copy", rows[:-1], last, False, _rolled(size)),
        ("an older copy, accepted", rows[:-1], last, True, {"entries": size - 1}),
        (
            "an older copy with its older tip: not seen",
            rows[:-1],
            tip(size - 2, size - 1),
            False,
            {"entries": size - 1},
        ),
        ("nothing left", [], last, False, _rolled(1)),
        ("another journal of equal length", other_root, last, False, _rolled(size)),
        ("a bit of a body, rollback accepted", changed(5, body=flipped), last, True, _corrupt(5)),
        ("a signed head over a longer log", *with_tip(empty_log), False, _corrupt(len(empty_log))),
        ("a signed head over another log", *with_tip(other_root), False, _corrupt(size)),
        ("a head signed by another", *with_tip(strange_head), False, _corrupt(size)),
    ]
    zero = slot((0, 0, 0, b"", GENESIS)) + bytes(512)
    bare: list[tuple[str, str, bytes, Case]] = [
        ("nothing, the first start", "none", b"", {"entries": 0}),
        ("a tip, no database yet", "none", zero, {"entries": 0}),
        ("a tip, a database of no bytes", "empty", zero, {"entries": 0}),
        ("a database of no bytes", "empty", b"", {"entries": 0}),
        ("a tip, a database without its schema", "no schema", zero, {"entries": 0}),
        ("a database without its schema, no tip", "no schema", b"", _rolled(0)),
        ("the database is gone", "none", last, _rolled(1)),
        ("the database was emptied", "empty", last, _rolled(1)),
        ("the database lost its schema", "no schema", last, _rolled(1)),
    ]
    return [
        *(
            case(name, **files(found), tip=data, accept_rollback=accept, **expected)
            for name, found, data, accept, expected in cases
        ),
        *(
            case(name, database=database, **files([]), tip=data, accept_rollback=False, **expected)
            for name, database, data, expected in bare
        ),
    ]


def _corrupt(entry: int) -> Case:
    return {"error": "journal_corrupt", "entry": entry}


def _rolled(entry: int) -> Case:
    return {"error": "journal_rollback", "entry": entry}
