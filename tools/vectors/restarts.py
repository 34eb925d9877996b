"""Starts that write, for TIP-09: what a node adds to journal and tip file before anything else."""

from collections.abc import Sequence

from tests.proto.samples import AT, NETWORK, NODE

from tirami.ledger.entries import Content, JournalOpened, NodeStarted
from tirami.ledger.journal import GENESIS, SCHEMA_VERSION
from tools.vectors.case import Case, case, replaced
from tools.vectors.entries import COLUMNS, Row, chained, files, journal_contents, slot

LOG_ID = b"\x0f" * 16
LATER = AT + 60_000
Contents = Sequence[tuple[int, Content]]


def restarts() -> list[Case]:
    whole = journal_contents()
    ahead = [(at_ms, _started_as(content, LATER + 7)) for at_ms, content in whole]
    rows, future, size = chained(whole), chained(ahead), len(whole)
    newest, before = rows[-1], rows[-2]
    return [
        _restart("an ordinary start", whole, before, newest),
        _restart("an ordinary start, the newest tip in the first slot", whole, newest, before),
        _restart("the clock was set back", whole, before, newest, clock=AT - 5_000),
        _restart("the first start", [], None, None, database="none"),
        _restart("the last entry lost, the newest tip in the first slot", whole[:-1], newest, before),
        _restart("the last entry lost, the newest tip in the second slot", whole[:-1], before, newest),
        _restart("the last two entries lost", whole[:-2], newest, before),
        _restart("the last entry lost, the clock set back", whole[:-1], newest, before, clock=AT - 5_000),
        _restart("the last entry lost, the incarnation ahead of the clock", ahead[:-1], future[-1], future[-2]),
        _restart("no tip", whole, None, None),
        _restart("nothing left", [], before, newest),
        _restart("nothing left, the newest tip in the first slot", [], rows[size - 1], rows[size - 2]),
        _restart("no database", [], newest, before, database="none"),
    ]


def _started_as(content: Content, incarnation: int) -> Content:
    changed: Content = replaced(content, incarnation=incarnation) if isinstance(content, NodeStarted) else content
    return changed


def _restart(
    name: str, contents: Contents, first: Row | None, second: Row | None, *, clock: int = LATER, database: str = ""
) -> Case:
    """Rules 3 and 5: what is found, and what is there once the first group has been written.

    Args:
        first, second: the entries whose tips are in the slots.
    """
    found = chained(contents)
    tip = b"".join(slot(row) if row else bytes(512) for row in (first, second)) if first or second else b""
    slots = [row or (0, 0, 0, b"", GENESIS) for row in (first, second)]
    last = max(row[0] for row in slots)
    rolled_back = len(found) < last or (not tip and bool(found))
    now = max([clock, *(at_ms for at_ms, _ in contents)])
    starts = [content for _, content in contents if isinstance(content, NodeStarted)]
    log_id, incarnation = (starts[-1].log_id, starts[-1].incarnation) if starts else (LOG_ID, 0)
    if rolled_back:
        log_id, incarnation = LOG_ID, max(incarnation + 1, now)
    added: list[Content] = [NodeStarted(now, incarnation, log_id, NETWORK.hash)]
    if not contents:
        added.insert(0, JournalOpened(SCHEMA_VERSION, NODE.public_key, NETWORK.id, NETWORK.hash))
    after = chained([*contents, *((now, content) for content in added)])
    if rolled_back:
        slots = [after[-1], after[-1]]
    else:
        slots[1 if slots[0][0] == last else 0] = after[-1]
    return case(
        name,
        **({"database": database} if database else {}),
        **files(found),
        tip=tip,
        accept_rollback=rolled_back,
        clock_ms=clock,
        random=LOG_ID,
        rolled_back=rolled_back,
        written=[dict(zip(COLUMNS, row, strict=True)) for row in after[len(found) :]],
        tip_after=b"".join(slot(row) if row[0] or not tip else bytes(512) for row in slots),
        entries=len(after),
    )
