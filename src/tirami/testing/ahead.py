"""A program of this project on a clock that is ahead: ``python -m tirami.testing.ahead SECONDS MODULE [ARG]…``.

``python -m tirami.testing.ahead 31536000 tirami.cli start --data-dir DIR`` is a node as it would start a year from now,
on what it had written down until today. Nodes of one mesh may differ by an hour: whoever is of another hour is not
believed. Only the wall clock is ahead; whatever is waited for takes as long as ever.
"""

import argparse
import runpy
import sys

from tirami.core.clock import SystemClock
from tirami.core.units import UnixMs


def run_ahead(seconds: int) -> None:
    """From now on, wherever this process asks the machine's clock."""
    now_ms = SystemClock.now_ms
    SystemClock.now_ms = lambda self: UnixMs(now_ms(self) + 1000 * seconds)  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tirami.testing.ahead", description="Run a program of this project on a clock that is ahead."
    )
    parser.add_argument("seconds", type=int)
    parser.add_argument("module", help="such as tirami.cli")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own")
    asked = parser.parse_args()
    run_ahead(asked.seconds)
    sys.argv[1:] = asked.arguments
    runpy.run_module(asked.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
