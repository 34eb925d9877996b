"""The pages that are written by a tool are what the tool writes, and leave nothing out."""

from pathlib import Path

import pytest
from tools import errors, settings

from tirami.cli.terminal import ExitCode
from tirami.core import errors as tree
from tirami.core.config import KEYS, environment_variable
from tirami.core.errors import TiramiError

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_pages_are_up_to_date() -> None:
    assert (DOCS / "settings.md").read_text() == settings.markdown(), "python -m tools.settings"
    assert (DOCS / "errors.md").read_text() == errors.markdown(), "python -m tools.errors"


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_has_its_variable_and_a_meaning(key: str) -> None:
    row = next(line for line in settings.markdown().splitlines() if line.startswith(f"| `{key}`<br>"))
    assert f"`{environment_variable(key)}`" in row
    assert row.split(" | ")[-1].strip(" |"), "the attribute has no docstring"


def test_every_code_is_listed_with_its_status_and_a_meaning() -> None:
    page = errors.markdown()
    for cls in vars(tree).values():
        if isinstance(cls, type) and issubclass(cls, TiramiError):
            rows = [line for line in page.splitlines() if line.startswith(f"| `{cls.code}` |")]
            assert rows, cls
            assert issubclass(cls, tree.StartError) or any(f"| {cls.status} |" in row for row in rows), cls
            assert all(row.split(" | ")[-1].strip(" |") for row in rows), cls


def test_every_exit_code_is_explained() -> None:
    assert set(errors.EXITS) == set(ExitCode)
