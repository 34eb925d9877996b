"""What the kernel knows about engine children."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path


def children(parent: int | None = None) -> list[int]:
    """Engine processes started by ``parent`` (this process when ``None``) that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        pid = int(entry.name) if entry.name.isdigit() else 0
        if pid and parent_of(pid) == (parent or os.getpid()) and b"worker.py" in command(pid):
            found.append(pid)
    return found


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    return bool(command(pid))


async def eventually(true: Callable[[], bool], within_s: float) -> float:
    """Wait until ``true``; how long that took. Fails after ``within_s``."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began
