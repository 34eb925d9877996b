"""Pages of the log, newest first: a cursor is a leaf, so that what is booked meanwhile moves nothing."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from tirami.ledger import StoredRecord

SCANNED = 1_000
"""Records looked at for one page: each is read from the journal."""
Entry = TypeVar("Entry")


def page_of(
    records: Iterable[StoredRecord], limit: int, entry: Callable[[StoredRecord], Entry | None]
) -> tuple[list[Entry], int | None]:
    """At most ``limit`` entries, and the cursor of the page after them; ``None`` when nothing is left.

    At most ``SCANNED`` records are looked at; a page that ends there may be short, and its cursor goes on.

    Args:
        entry: what is shown of a record; ``None`` when it is not wanted.
    """
    page: list[Entry] = []
    for looked_at, stored in enumerate(records):
        shown = entry(stored)
        if looked_at == SCANNED or (shown is not None and len(page) == limit):
            return page, stored.leaf_index + 1
        if shown is not None:
            page.append(shown)
    return page, None
