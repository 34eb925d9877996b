"""Where and when figures were measured, and of what: without it nobody can judge them."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.proxy import PINS, ROOT


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts above the table, in words."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    date: str
    commit: str
    litellm: str

    @classmethod
    def this(cls, date: str) -> Self:
        """The machine this runs on. Call it before results are written: they change the tree."""
        model = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
        memory = re.search(r"^MemTotal:\s*(\d+) kB$", _read(Path("/proc/meminfo")), re.MULTILINE)
        litellm = re.search(r"^litellm==(\S+)", _read(PINS), re.MULTILINE)
        return cls(
            processor=f"{model[1] if model else platform.processor() or 'unknown'}, {platform.machine()}",
            cores=os.cpu_count() or 0,
            memory_gib=int(memory[1]) / (1 << 20) if memory else 0.0,
            kernel=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            date=date,
            commit=_commit(),
            litellm=litellm[1] if litellm else "unknown",
        )

    def told(self) -> str:
        return (
            f"Machine: {self.processor}; {self.cores} cores, {self.memory_gib:.1f} GiB; {self.kernel}; Python "
            f"{self.python}. Date: {self.date}. Commit: {self.commit}. LiteLLM: {self.litellm}."
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _commit() -> str:
    """The commit that is checked out, and whether the tree differs from it; ``unknown`` outside a clone."""
    try:
        head, changed = (
            subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}, with changes" if changed else head
