"""Every fragment reaches the changelog of a release."""

import subprocess
import sys
import tomllib
from pathlib import Path

from towncrier._builder import parse_newfragment_basename

ROOT = Path(__file__).resolve().parents[2]
FRAGMENTS = sorted(path for path in (ROOT / "changelog.d").iterdir() if path.name != "template.md")
KINDS = ["added", "changed", "fixed", "removed", "security"]


def test_the_kinds_are_declared_and_shown() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    assert [kind["directory"] for kind in declared] == KINDS
    assert all(kind["showcontent"] for kind in declared)


def test_every_fragment_is_of_a_kind() -> None:
    for fragment in FRAGMENTS:
        issue, kind, _ = parse_newfragment_basename(fragment.name, KINDS)
        assert issue and kind in KINDS and fragment.name == f"{issue}.{kind}.md", fragment.name


def test_a_release_would_tell_them_all() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2026-01-02"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "## 9.9.9 (2026-01-02)" in ended.stdout
    told = " ".join(ended.stdout.split())
    for fragment in FRAGMENTS:
        assert " ".join(fragment.read_text().split()) in told, fragment.name


def test_a_release_goes_below_the_head_of_the_changelog() -> None:
    assert "<!-- towncrier release notes start -->" in (ROOT / "CHANGELOG.md").read_text()
