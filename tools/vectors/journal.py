"""Vectors of TIP-09: entries, tips and starts of a journal."""

from tests.proto.samples import NETWORK, NODE

from tirami.ledger.journal import GENESIS
from tirami.ledger.segments import Segment
from tirami.ledger.tip import Tip, pack_tip
from tools.vectors.case import Case, case
from tools.vectors.entries import JOURNAL_KEY, chained, journal_contents, segment_case
from tools.vectors.restarts import restarts
from tools.vectors.sealed import sealed_starts
from tools.vectors.starts import starts
from tools.vectors.tables import fenced


def vectors() -> Case:
    rows = chained(journal_contents())
    return {
        "node_seed": NODE.seed.hex(),
        "key": JOURNAL_KEY.hex(),
        "network": NETWORK.to_bytes().decode(),
        "genesis": GENESIS.hex(),
        "entries": [
            case(f"entry {seq}", seq=seq, kind=kind, at_ms=at_ms, body=body, chain=chain)
            for seq, kind, at_ms, body, chain in rows
        ],
        "tips": [
            case(f"tip {row[0]}", seq=row[0], chain=row[4], slot=pack_tip(Tip(row[0], row[4]), JOURNAL_KEY))
            for row in rows
        ],
        "segments": [
            case(
                "the first five entries", previous=GENESIS, **segment_case(Segment.of(rows[:5], GENESIS, JOURNAL_KEY))
            ),
            case("one entry", previous=rows[4][4], **segment_case(Segment.of(rows[5:6], rows[4][4], JOURNAL_KEY))),
        ],
        "starts": [*starts(), *sealed_starts()],
        "restarts": restarts(),
    }


def example() -> list[str]:
    rows = chained(journal_contents())
    lines = [f"key      {JOURNAL_KEY.hex()}", f"genesis  {GENESIS.hex()}"]
    lines += [f"{seq} {'RHFC'[kind]} {at_ms}  {chain.hex()}" for seq, kind, at_ms, _, chain in rows]
    return fenced(*lines)
