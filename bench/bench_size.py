"""A million records: how long a node takes to start again with every hash checked, what it holds in memory, how long
the log takes; and what a node without a model holds. How the journal is made: :mod:`bench.size`."""

import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.processes import NodeProcess

from bench.memory import rss_mb
from bench.result import Result, measured

TRADES, STARTS = 1_000_000, 3
IDLE_S = 60


async def worker(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.size", *arguments, "--whole", stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"bench.size {' '.join(arguments)} ended with {process.returncode}")
    return dict(json.loads(output.splitlines()[-1]))


async def idle(home: Path) -> float:
    """MB that a node without a model holds a minute after its start."""
    node = await asyncio.to_thread(NodeProcess(home, "--no-model", "--log-level", "warning").start)
    try:
        await asyncio.sleep(IDLE_S)
        return rss_mb(node.process.pid)
    finally:
        await asyncio.to_thread(node.stop)


async def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            empty = group.create_task(idle(Path(home) / "node"))
            making = group.create_task(worker("make", f"{home}/book", str(TRADES)))
        made = making.result()
        print(
            f"     {TRADES} trades of 4 entries, booked through holds, vouchers and captures in {made['make_s']:.0f} s;"
            f" signatures repeated, everything else real ({time.perf_counter() - began:.0f} s in all)",
            flush=True,
        )
        starts = [await worker("open", f"{home}/book") for _ in range(STARTS)]
    first = starts[0]
    assert first["records"] >= TRADES and first["leaf_bytes"] >= 300
    every = {name: [start[name] for start in starts] for name in first}
    spread = {name: list(chain(*values)) for name, values in every.items() if isinstance(values[0], list)}
    return [
        measured("10⁶ records: start, every hash checked", every["restart_s"], "s", most=10),
        measured("10⁶ records: resident memory, peak", every["peak_mb"], "MB", most=600),
        measured("10⁶ records: append to the log", spread["append_us"], "µs", most=50),
        measured("10⁶ records: root of the log, first time", spread["root_us"], "µs", most=50),
        measured("10⁶ records: root of the log, again", spread["root_again_us"], "µs", most=5),
        measured("10⁶ records: inclusion proof, p99", [quantiles(spread["proof_ms"], n=100)[98]], "ms", most=5),
        measured("10⁶ records: a record by its id, from disk", spread["read_ms"], "ms"),
        measured("10⁶ records: event loop held by a snapshot", every["picture_ms"], "ms", most=20),
        measured("journal on disk a trade", [made["bytes"] / TRADES], "B"),
        measured("node without a model, a minute after its start", [empty.result()], "MB", most=150),
    ]
