"""The testing engine at the speed of a small model: ``python -m tests.cli.paced_engine MILLISECONDS``.

The demo asserts timings that an engine without any delay cannot show.
"""

import asyncio
import dataclasses
import sys

from tirami.testing import engine
from tirami.testing.script import Directive


class Paced(Directive):
    """Every answer waits before each token unless its prompt says for how long."""

    @classmethod
    def read(cls, prompt: str) -> Directive:
        found = Directive.read(prompt)
        return found if found.delay_ms else dataclasses.replace(found, delay_ms=int(sys.argv[1]))


if __name__ == "__main__":
    engine.Directive = Paced  # type: ignore[misc]
    asyncio.run(engine.serve(0))
