"""Memory of a node that has no model and nothing to do."""

import asyncio
import tempfile
from pathlib import Path

from tests.processes import NodeProcess

from bench.load import rss_mb
from bench.result import Result, measured

AFTER_S = 60


async def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as home:
        with NodeProcess(Path(home) / "node", "--no-model", "--log-level", "warning") as node:
            await asyncio.sleep(AFTER_S)
            used = rss_mb(node.process.pid)
    return [measured(f"memory of a node without a model, {AFTER_S} s after its start", [used], "MB", most=150)]
