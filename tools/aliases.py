"""``python -m tools.aliases``: write docs/aliases.md, the table of names of the original that are still served."""

from pathlib import Path

from tirami.api import OPERATIONS
from tirami.api.legacy import FIELDS, SUNSET, legacy_path

TARGET = Path(__file__).resolve().parents[1] / "docs" / "aliases.md"
_HEAD = """\
# Names of the original

Written by `python -m tools.aliases` from `tirami.api.legacy`; do not edit.

Every path under `/v1/tirami/` is also answered under `/v1/forge/`, by the same handler, with `Deprecation: true`,
`Sunset: {sunset}` and a `Link` to its successor. The header `X-Tirami-Compat: forge`, the query
`compat=forge` or the setting `api.compat = "forge"` ask for the original's dialect: `x_forge` beside `x_tirami`,
integer error codes, any model name is answered.

The unit is the TRM. Fields that the original named after CU keep that name beside the `trm` one; a request may use
either, and is refused when it uses both and they disagree.

| operation | where | name | old name |
|---|---|---|---|
"""


def markdown() -> str:
    """The document."""
    rows = [
        f"| `{alias.operation}` | {'request' if alias.in_request else 'answer'} | `{alias.name}` | `{alias.legacy}` |"
        for alias in FIELDS
    ]
    paths = [
        f"| `{operation.method}` | `{operation.path}` | `{old}` |"
        for operation in OPERATIONS
        if (old := legacy_path(operation.path)) is not None
    ]
    head = _HEAD.format(sunset=SUNSET)
    return "\n".join([head.rstrip("\n"), *rows, "", "| method | path | old path |", "|---|---|---|", *paths, ""])


if __name__ == "__main__":
    TARGET.write_text(markdown())
