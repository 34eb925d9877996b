"""How fast a new node takes a book in, and what that costs on the wire; both ends are in this process."""

import tempfile
import time
from pathlib import Path

from tests.net.mesh import Grants, member
from tests.waiting import until

from bench.result import Result, measured
from bench.wire import InMemory, Quic, Wire
from tirami.core.clock import SystemClock
from tirami.core.keys import SigningKey

TRADES, RUNS = 500, 3
"""Each of them two records: a line, and what is bought with it."""


async def taken_in(home: Path, wire: Wire) -> list[Result]:
    clock = SystemClock()
    grants = Grants(clock)
    rates, sizes, pieces = [], [], []
    key = SigningKey.generate()
    await wire.bind(key)
    async with member(home / "full", wire.endpoint(key.public_key), key, grants.network, clock, 0) as full:
        for _ in range(TRADES):
            await grants.trade(full)
        for run in range(1, RUNS + 2):
            key = SigningKey.generate()
            await wire.bind(key)
            endpoint = wire.endpoint(key.public_key)
            async with member(home / str(run), endpoint, key, grants.network, clock, run) as fresh:
                before, began = wire.sent(key.public_key), time.perf_counter()
                fresh.mesh.keep(full.mesh.address())
                await until(lambda: fresh.records == full.records, 60)
                rates.append(fresh.records / (time.perf_counter() - began))
                sent = wire.sent(key.public_key) - before
                sizes.append(sent.bytes / fresh.records)
                pieces.append(sent.pieces / fresh.records)
                assert fresh.state_hash == full.state_hash
    name = f"mesh: {2 * TRADES} records taken in by a fresh peer, {wire.medium}"
    return [
        measured(name, rates[1:], "1/s"),
        measured(f"{name}, bytes a record", sizes[1:], "B"),
        measured(f"{name}, {wire.pieces} a record", pieces[1:], wire.pieces),
    ]


async def run() -> list[Result]:
    results = []
    for wire in (InMemory(), Quic()):
        with tempfile.TemporaryDirectory() as home:
            results += await taken_in(Path(home), wire)
    return results
