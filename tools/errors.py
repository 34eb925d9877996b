"""``python -m tools.errors``: write docs/errors.md, all codes of the API and the command line."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from tirami.cli.terminal import ExitCode
from tirami.core import errors
from tirami.core.errors import StartError, TiramiError

TARGET = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
EXITS = {
    ExitCode.OK: "done",
    ExitCode.ERROR: "it failed; the error and its code stand on standard error, with `--json` also on standard output",
    ExitCode.USAGE: "the command was typed wrongly; nothing was done",
    ExitCode.NOT_VERIFIED: "what was to be verified does not hold (`tirami verify`, `settle --verify`, `log …`)",
}
_HEAD = """\
# Errors and exit codes

Written by `python -m tools.errors` from `tirami.core.errors`; do not edit.

Every route answers an error in one shape: `{"error": {"message", "type", "code", "param", "request_id", "status"}}`,
often with further facts. Go by `code`: it is stable, the message is for people. `param` names the field that is wrong.
Where trying again may help, the header `Retry-After` says after how many seconds. The SDK raises the error's class.

## Exit codes

| code | meaning |
|---:|---|
"""


def markdown() -> str:
    """The document."""
    text = _HEAD + "".join(f"| {int(code)} | {meaning} |\n" for code, meaning in EXITS.items())
    text += "\n## A fault of this node\n\n" + _table([TiramiError])
    for group in _below(TiramiError):
        text += f"\n## {_meaning(group).split(';')[0].rstrip('.')}\n\n" + _table(list(_members(group)))
    return text


def _below(cls: type[TiramiError]) -> list[type[TiramiError]]:
    """Its direct children in the order of the source."""
    classes = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, TiramiError)]
    return [item for item in classes if item.__base__ is cls]


def _members(group: type[TiramiError]) -> Iterator[type[TiramiError]]:
    """The group's own code, unless one below it says more of the same, and all below it."""
    below = _below(group)
    if group.code not in {item.code for item in below}:
        yield group
    for item in below:
        yield from _members(item)


def _table(classes: list[type[TiramiError]]) -> str:
    if issubclass(classes[0], StartError):  # told at the command line only
        rows = [f"| `{item.code}` | {_meaning(item)} |\n" for item in classes]
        return "| code | meaning |\n|---|---|\n" + "".join(rows)
    rows = [f"| `{item.code}` | {item.status} | `{item.type}` | {_meaning(item)} |\n" for item in classes]
    return "| code | HTTP | type | meaning |\n|---|---:|---|---|\n" + "".join(rows)


def _meaning(cls: type[TiramiError]) -> str:
    if cls is TiramiError:
        return "A fault that nobody foresaw; the log of the node tells more."
    told = re.sub(r" \(PROTOCOL B\d+\)", "", cls.__doc__ or "")
    return " ".join(told.replace("``", "`").replace("|", "\\|").split())


if __name__ == "__main__":
    TARGET.write_text(markdown())
