"""The testing engine at the speed of a small model: ``python -m tests.cli.paced_engine MILLISECONDS``.

The demo asserts timings that an engine without any delay cannot show.
"""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tirami.testing import engine
from tirami.testing.script import Directive


class Paced(Directive):
    """Every answer waits before each token unless its prompt says for how long."""

    @classmethod
    def read(cls, prompt: str) -> Directive:
        found = Directive.read(prompt)
        return found if found.delay_ms else dataclasses.replace(found, delay_ms=int(sys.argv[1]))


@contextmanager
def paced_engine(milliseconds: int) -> Iterator[str]:
    """The URL of one in a process of its own."""
    command = [sys.executable, "-m", "tests.cli.paced_engine", str(milliseconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
        process.stdin.close()


if __name__ == "__main__":
    engine.Directive = Paced  # type: ignore[misc]
    asyncio.run(engine.serve(0))
