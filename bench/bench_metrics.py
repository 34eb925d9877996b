"""How long a scrape of a large book takes, in the node, and what it holds the event loop for."""

import tempfile
import time
from pathlib import Path

from tests.node.trades import book_trades

from bench.result import Result, measured
from tirami.core.clock import SystemClock
from tirami.core.config import load_config
from tirami.node.http import HttpServer, build_app
from tirami.node.parts import Parts, open_parts
from tirami.sdk import AsyncTirami

TRADES, PAYERS, SCRAPES = 100_000, 1_000, 30


async def run() -> list[Result]:
    """Over HTTP, from the same process: server and client share one core, so this is the dearer figure."""
    with tempfile.TemporaryDirectory() as home:
        config = load_config(None, {}, {"data_dir": str(Path(home) / "home")})
        async with open_parts(config, SystemClock()) as parts:
            await book_trades(parts.ledger, parts.key.public_key, TRADES, PAYERS)
            first, later = await _scraped(parts)
    return [
        measured(f"scrape of {TRADES} trades, the first after a start", [first], "ms", most=50),
        measured(f"scrape of {TRADES} trades", later, "ms", most=50),
    ]


async def _scraped(parts: Parts) -> tuple[float, list[float]]:
    """Milliseconds of the first scrape and of those after it."""
    took = []
    async with HttpServer(build_app(parts), "127.0.0.1", 0) as server, AsyncTirami(server.url) as client:
        await client.healthz()
        for _ in range(SCRAPES):
            began = time.perf_counter()
            text = await client.metrics()
            took.append((time.perf_counter() - began) * 1000)
            assert f"tirami_trade_count_total {float(TRADES)}".encode() in text
    return took[0], took[1:]
