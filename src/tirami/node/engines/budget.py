"""Which models give way when another one needs their memory: a pure rule, and what this machine has."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHARE: Final = (3, 4)
"""Of the machine's memory, where ``infer.memory_budget_mib`` is 0; the rest is for the node and everything else."""
STAYS: Final = 2
"""Times as long as it took to load, a model stays whoever wants its memory: no more than a third of the time of a node
that is asked for models in turn goes into loading them."""
LONGEST_STAY_S: Final = 60.0
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory.

    Attributes:
        name: the id clients use.
        cost: bytes it takes.
        in_use: somebody waits for an answer of it, or for the model itself.
        last_used: monotonic seconds.
        stays_until: monotonic seconds before which it does not give way.
    """

    name: str
    cost: int
    in_use: bool
    last_used: float
    stays_until: float = 0.0


def stay_s(load_s: float) -> float:
    """Seconds that a model stays at least which took ``load_s`` to load."""
    return min(STAYS * load_s, LONGEST_STAY_S)


def next_leave_s(residents: Iterable[Resident], now: float) -> float | None:
    """Seconds until another idle model may give way; ``None`` when time alone will change nothing."""
    staying = (resident.stays_until - now for resident in residents if not resident.in_use)
    return min((left for left in staying if left > 0), default=None)


def to_unload(residents: Iterable[Resident], needed: int, budget: int, now: float) -> tuple[str, ...] | None:
    """The models that must go so that ``needed`` more bytes fit into ``budget``; ``None`` while they cannot.

    Idle models that have stayed long enough only, least recently used first, and no more of them than it takes: one
    without whom the others would still make enough room stays.
    """
    every = tuple(residents)
    excess = sum(resident.cost for resident in every) + needed - budget
    free = (resident for resident in every if not resident.in_use and resident.stays_until <= now)
    idle = sorted(free, key=lambda resident: resident.last_used)
    going: list[Resident] = []
    for resident in idle:
        if excess <= 0:
            break
        if resident.cost:
            going.append(resident)
            excess -= resident.cost
    if excess > 0:
        return None
    for resident in reversed(tuple(going)):
        if excess + resident.cost <= 0:
            going.remove(resident)
            excess += resident.cost
    return tuple(resident.name for resident in going)


def budget_bytes(configured_mib: int) -> int:
    """Bytes that models may take together: as configured, else a share of what this machine, or this container, has."""
    if configured_mib:
        return configured_mib << 20
    return machine_memory_bytes() * SHARE[0] // SHARE[1]


def machine_memory_bytes() -> int:
    """Memory of the machine, or of the container, where that is less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(installed, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without limit ("max")
        return installed
