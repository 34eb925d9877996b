"""Ids as people type them: in full, or only as much of the beginning as tells one from another."""

from collections.abc import Iterable

from tirami.core.errors import NotFound

FULL = 64


def whole(start: str, known: Iterable[str], missing: type[NotFound]) -> str:
    """The one id of ``known`` that begins with ``start``; a full id is taken as it is. Raises ``missing``."""
    digits = start.strip().lower().removeprefix("tirami_").removeprefix("forge_")
    if len(digits) >= FULL:
        return digits
    found = [entry for entry in known if digits and entry.startswith(digits)]
    if len(found) != 1:
        raise missing(f"{len(found) or 'none'} of the ids here begin with {start!r}; exactly one must")
    return found[0]
