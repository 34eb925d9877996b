"""``python -m tools.settings``: write docs/settings.md, all settings, from :mod:`tirami.core.config`."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

from tirami.core import config
from tirami.core.config import KEYS, Config, environment_variable, is_secret

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_HEAD = """\
# Settings

Written by `python -m tools.settings` from `tirami.core.config`; do not edit.

A setting `section.name` is `name` under `[section]` in `config.toml`, or the environment variable beside it. Defaults,
then the file, then the environment, then flags: the later wins. An unknown setting is refused. `tirami config show`
prints what a node would have and where each value comes from; `tirami config check FILE` judges a file.

`TIRAMI_CONFIG` names the file. `TIRAMI_URL` and `TIRAMI_API_TOKEN` are no settings: commands and the SDK read them to
find a node and to be let in; a node does not.

| setting | default | meaning |
|---|---|---|
"""
_COLUMNS = "| setting | default | values | meaning |\n|---|---|---|---|\n"


def markdown() -> str:
    """The document."""
    told = dict(_told())
    text = _HEAD + f"| {_names('data_dir')} | `~/.tirami` | {told['Config', 'data_dir']} |\n"
    for section in fields(Config):
        keys = [key for key in KEYS if key.startswith(f"{section.name}.")]
        if keys and isinstance(section.type, type):
            of = section.type.__name__
            text += f"\n## {section.name}\n\n{told[of, '']}\n\n" + _COLUMNS
            text += "".join(_row(key, told[of, key.partition(".")[2]]) for key in keys)
    return text


def _names(key: str) -> str:
    return f"`{key}`<br>`{environment_variable(key)}`"


def _row(key: str, meaning: str) -> str:
    return f"| {_names(key)} | {_default(key)} | {_values(key)} | {meaning} |\n"


def _told() -> Iterator[tuple[tuple[str, str], str]]:
    """What the source says of each class, ``(class, "")``, and of each of its attributes: the string below it."""
    for node in ast.parse(inspect.getsource(config)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        yield (node.name, ""), _cell(ast.get_docstring(node) or "")
        for attribute, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name):
                said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and below.value.value
                yield (node.name, attribute.target.id), _cell(str(said or ""))


def _cell(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").replace("|", "\\|").split())


def _default(key: str) -> str:
    item = KEYS[key]
    assert item is not None and item.default is not MISSING
    value = item.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", ()) else "empty"


def _values(key: str) -> str:
    """What may be set, as far as the settings are checked by value."""
    item = KEYS[key]
    assert item is not None
    if "choices" in item.metadata:
        return ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
    if "least" in item.metadata:
        return f"{item.metadata['least']} … {item.metadata['most']}"
    if isinstance(item.default, bool):
        return "`true`, `false`"
    kind = "list" if "origins" in item.metadata else "path" if "path" in item.metadata else "text"
    return f"{kind}, secret" if is_secret(key) else kind


if __name__ == "__main__":
    TARGET.write_text(markdown())
