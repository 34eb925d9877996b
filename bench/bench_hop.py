"""One hop over QUIC on loopback, seller and buyer processes of their own with the small model: what buying adds.

The same question, but for the number it begins with (so that no prompt is at hand already), goes to the buyer and to
the seller itself, over HTTP.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import aiohttp
from tests.processes import NodeProcess
from tests.rows.mesh import address_of, eventually, network, seed, worker

from bench.load import Timing, ask, cpu_seconds, question
from bench.pairs import ratios
from bench.result import Result, measured
from bench.wire import WEALTH, unbounded
from tirami.api.schemas import PeersQuery
from tirami.core.keyfile import load_or_create_node_key

MODEL = "smollm2:135m"
MEDIUM = "QUIC on loopback"
SHORT = "Tell me a long story about a dog."
LONG = SHORT + " It begins like this: once upon a time there was a dog who lived by the sea and loved to swim." * 8
RUNS, STREAMS, TOKENS = 5, 2, 128


class Asked:
    """Questions to one node over HTTP, none of them asked before."""

    numbers = count(1_000)

    def __init__(self, node: NodeProcess, http: aiohttp.ClientSession) -> None:
        self._url = f"{node.url}/v1"
        self._http = http
        self.firsts: list[float] = []
        """Milliseconds to the first token."""

    async def first(self, text: str) -> float:
        self.firsts.append((await self._ask(text, 1)).first)
        return self.firsts[-1]

    async def tokens(self) -> int:
        """Of several streams at once."""
        return sum(one.pieces for one in await asyncio.gather(*(self._ask(SHORT, TOKENS) for _ in range(STREAMS))))

    async def _ask(self, text: str, tokens: int) -> Timing:
        body = question(f"{next(self.numbers)}. {text}", tokens) | {"model": MODEL, "temperature": 0}
        timing = await ask(self._http, self._url, body)
        assert timing.status == 200 and timing.pieces, timing
        return timing


@contextmanager
def pair(home: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """The one that has the model, and the one that buys of it."""
    file, _ = network(home, "seller", "buyer", **WEALTH)
    with seed(home / "seller", file, "--model", MODEL, "--log-level", "warning") as seller:
        with worker(home / "buyer", file, address_of(seller), options=("--log-level", "warning")) as buyer:
            with buyer.client() as client:
                eventually(lambda: any(peer.why_not is None for peer in client.peers(PeersQuery()).peers))
            yield seller, buyer


@asynccontextmanager
async def asking(seller: NodeProcess, buyer: NodeProcess) -> AsyncIterator[tuple[Asked, Asked]]:
    async with aiohttp.ClientSession() as http:
        yield Asked(seller, http), Asked(buyer, http)


async def firsts(seller: NodeProcess, buyer: NodeProcess, what: str, text: str, most: float | None) -> list[Result]:
    async with asking(seller, buyer) as (local, bought):
        shares = await ratios(lambda: bought.first(text), lambda: local.first(text))
    name = f"mesh: first token of {what}, {MEDIUM}"
    return [
        measured(f"{name}, asked locally", local.firsts[1:], "ms"),
        measured(f"{name}, bought", bought.firsts[1:], "ms"),
        measured(f"{name}, bought ÷ asked locally", shares, "ratio", most=most),
    ]


async def processor(seller: NodeProcess, buyer: NodeProcess) -> list[Result]:
    """Of the nodes' own processes; the model's is another."""
    alone, sold, eaten = [], [], []
    async with asking(seller, buyer) as (local, bought):
        for _ in range(RUNS + 1):
            before = cpu_seconds(seller.process.pid)
            tokens = await local.tokens()
            alone.append((cpu_seconds(seller.process.pid) - before) / tokens * 1e6)
            before, buying = cpu_seconds(seller.process.pid), cpu_seconds(buyer.process.pid)
            tokens = await bought.tokens()
            sold.append((cpu_seconds(seller.process.pid) - before) / tokens * 1e6)
            eaten.append((cpu_seconds(buyer.process.pid) - buying) / tokens * 1e6)
    overhead = [(one + other) / by_itself for by_itself, one, other in zip(alone, sold, eaten, strict=True)]
    name = f"mesh: node CPU a token of answers of {TOKENS}"
    return [
        measured(f"{name}, streamed locally", alone[1:], "µs"),
        measured(f"{name}, metered and sold over {MEDIUM}: provider", sold[1:], "µs"),
        measured(f"{name}, metered and bought over {MEDIUM}: consumer", eaten[1:], "µs"),
        measured(f"{name}, both of them ÷ streamed locally", overhead[1:], "ratio"),
    ]


async def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as home, pair(Path(home)) as (seller, buyer):
        token = (buyer.data_dir / "admin.token").read_text().strip()
        key, _ = load_or_create_node_key(buyer.data_dir / "node.key")
        await unbounded(buyer.url, token, key.public_key.hex())
        return [
            *await firsts(seller, buyer, "a short question", SHORT, 1.3),
            *await firsts(seller, buyer, "a question of 200 tokens", LONG, 1.3),
            *await processor(seller, buyer),
        ]
