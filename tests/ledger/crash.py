"""A power cut, as far as files show it."""

import shutil
from pathlib import Path


def copied(source: Path, target: Path) -> Path:
    """The files of a running ledger as they lie there, without a snapshot half written: it comes and goes."""
    return shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.tmp"))
