"""Names of the original that are still served, in one table (R-02, R-03, GEN-03).

Paths under ``/v1/forge`` are answered by the handlers of ``/v1/tirami`` and say that they are deprecated. Fields
named after CU keep their names beside the ``trm`` ones; a request may use either, both only when they agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX, LEGACY_PREFIX = "/v1/tirami/", "/v1/forge/"
SUNSET = "Sun, 31 Dec 2028 23:59:59 GMT"
"""Until then the old paths are answered."""


@dataclass(frozen=True, slots=True)
class FieldAlias:
    """``legacy`` says the same as ``name`` in the body (``in_request``: of the request) of ``operation``."""

    operation: str
    legacy: str
    name: str
    in_request: bool = False


FIELDS: tuple[FieldAlias, ...] = (
    FieldAlias("network", "total_contributed_cu", "total_contributed_trm"),
    FieldAlias("network", "total_consumed_cu", "total_consumed_trm"),
    FieldAlias("peers", "available_cu", "available_trm"),
    FieldAlias("pricing", "cu_purchasing_power", "trm_purchasing_power"),
    FieldAlias("providers", "contributed_cu", "contributed_trm"),
    FieldAlias("providers", "cu_per_100_tokens", "trm_per_100_tokens"),
    FieldAlias("route", "estimated_cu", "estimated_trm"),
    FieldAlias("route", "max_cu", "max_trm", in_request=True),
    FieldAlias("settlement", "gross_earned_cu", "gross_earned_trm"),
    FieldAlias("settlement", "gross_spent_cu", "gross_spent_trm"),
    FieldAlias("settlement", "net_cu", "net_trm"),
    FieldAlias("settlement", "reference_price_per_cu", "reference_price_per_trm"),
    FieldAlias("settlement", "reference_price_per_cu", "reference_price_per_trm", in_request=True),
    FieldAlias("settlement", "window_start", "since", in_request=True),
    FieldAlias("settlement", "window_end", "until", in_request=True),
    FieldAlias("safety", "max_cu_per_request", "max_trm_per_request"),
    FieldAlias("safety", "max_cu_per_hour", "max_trm_per_hour"),
    FieldAlias("safety", "max_cu_lifetime", "max_trm_lifetime"),
    FieldAlias("set_policy", "max_cu_per_request", "max_trm_per_request", in_request=True),
    FieldAlias("set_policy", "max_cu_per_hour", "max_trm_per_hour", in_request=True),
    FieldAlias("set_policy", "max_cu_lifetime", "max_trm_lifetime", in_request=True),
)
"""Every field that has two names."""


def legacy_path(path: str) -> str | None:
    """The original's path of an operation; ``None`` for those outside ``/v1/tirami/``."""
    return LEGACY_PREFIX + path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def successor(path: str) -> str:
    """The path to use instead of a legacy one."""
    return PREFIX + path.removeprefix(LEGACY_PREFIX)


def one_name(operation: str, values: Any, *, keep_legacy: bool = False) -> Any:
    """Request values under one name a field, ours unless ``keep_legacy``.

    Raises ``ValueError`` when both names are given and disagree: which of two budgets was meant, nobody can know.
    """
    if not isinstance(values, Mapping):
        return values
    result = dict(values)
    for alias in FIELDS:
        if alias.operation != operation or not alias.in_request:
            continue
        kept, other = (alias.legacy, alias.name) if keep_legacy else (alias.name, alias.legacy)
        if other not in result:
            continue
        if kept in result and result[kept] != result[other]:
            raise ValueError(f"{kept} and {other} are two names of one field and disagree")
        result[kept] = result.pop(other)
    return result
