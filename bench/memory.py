"""Resident memory of a process, in MB of 10⁶ bytes, as Linux counts it."""

from pathlib import Path


def rss_mb(pid: int | str = "self") -> float:
    """What is resident now."""
    return _status(pid, "VmRSS")


def peak_mb(pid: int | str = "self") -> float:
    """The most that ever was."""
    return _status(pid, "VmHWM")


def _status(pid: int | str, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no {name} in /proc/{pid}/status")
