"""What an operator should see to while the node still works."""

import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from tirami.core.clock import APART_MS, apart
from tirami.core.config import Config, is_public
from tirami.node.home import journal_path

MIB = 1 << 20
MOST_AHEAD_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Alert:
    """``code`` is stable and tells nothing but its kind; ``message`` is for the operator."""

    code: str
    message: str


def alerts(config: Config, raised: Iterable[Alert] = ()) -> list[Alert]:
    """As things stand now, and what was ``raised`` before; one look at the file system and nothing else."""
    found = list(raised)
    if is_public(config.api) and not config.api.tls_cert:
        found.append(Alert("no_tls", "other machines reach this node without TLS: tokens and prompts go in the clear"))
    least = config.journal.low_disk_mib
    try:
        free = shutil.disk_usage(journal_path(config).parent).free // MIB
    except OSError as error:
        found.append(Alert("disk_unknown", f"free space for the journal cannot be told: {error.strerror}"))
    else:
        if free < least:
            found.append(Alert("disk_low", f"{free} MiB are free for the journal, fewer than {least}"))
    return found


def clock_ahead(ahead_ms: int) -> list[Alert]:
    """``ahead_ms``: how far the ledger's time stands before the clock's."""
    if ahead_ms <= MOST_AHEAD_MS:
        return []
    message = (
        f"the clock once stood {ahead_ms // 60_000} minutes ahead of now, or stands as much behind: until it has "
        "caught up, limits a minute and an hour stay used, open breakers stay open and tokens do not expire"
    )
    return [Alert("clock_ahead", message)]


def clock_differs(ahead_ms: Collection[int]) -> list[Alert]:
    """``ahead_ms``: how far the time of each peer stands ahead of this node's, of those that told it."""
    if not ahead_ms:
        return []
    ranked, middle = sorted(ahead_ms), (len(ahead_ms) - 1) // 2
    most = min(ranked[middle], ranked[len(ranked) // 2], key=abs)
    if abs(most) <= MOST_AHEAD_MS:
        return []
    those = "the only peer's" if len(ranked) == 1 else f"that of most of {len(ranked)} peers"
    effect = "it trades with none of them, and its orders are dropped" if abs(most) > APART_MS else "set it"
    return [Alert("clock_differs", f"this node's clock is {apart(-most)} {those}: {effect}")]
