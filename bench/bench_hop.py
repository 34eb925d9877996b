"""One hop over QUIC on loopback, seller and buyer processes of their own: what buying adds.

The same question, but for the number it begins with (so that no prompt is at hand already), goes to the buyer and to
the seller itself, over HTTP. Goals are held against a model at a fixed rate; with the small model, which needs both
processors of a small machine for itself, the figures are reported.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import aiohttp
from tests.processes import NodeProcess
from tests.rows.mesh import address_of, eventually, network, seed, worker

from bench.load import Timing, ask, cpu_seconds, question
from bench.paced import FIRST_MS
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
PAIRS, LONG_ANSWER = 6, 256


class Asked:
    """Questions to one node over HTTP, none of them asked before."""

    numbers = count(1_000)

    def __init__(self, node: NodeProcess, http: aiohttp.ClientSession) -> None:
        self._url = f"{node.url}/v1"
        self._http = http
        self.firsts: list[float] = []
        """Milliseconds to the first token."""
        self.rates: list[float] = []
        """Tokens a second."""

    async def first(self, text: str) -> float:
        self.firsts.append((await self._ask(text, 1)).first)
        return self.firsts[-1]

    async def rate(self) -> float:
        timing = await self._ask(SHORT, LONG_ANSWER)
        self.rates.append((timing.pieces - 1) / (timing.last - timing.first) * 1000)
        return self.rates[-1]

    async def tokens(self) -> int:
        """Of several streams at once."""
        return sum(one.pieces for one in await asyncio.gather(*(self._ask(SHORT, TOKENS) for _ in range(STREAMS))))

    async def _ask(self, text: str, tokens: int) -> Timing:
        body = question(f"{next(self.numbers)}. {text}", tokens) | {"model": MODEL, "temperature": 0}
        timing = await ask(self._http, self._url, body)
        assert timing.status == 200 and timing.pieces, timing
        return timing


@contextmanager
def pair(home: Path, program: str = "tirami.cli") -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """The one that has the model, run by ``program``, and the one that buys of it."""
    file, _ = network(home, "seller", "buyer", **WEALTH)
    with seed(home / "seller", file, "--model", MODEL, "--log-level", "warning", program=program) as seller:
        with worker(home / "buyer", file, address_of(seller), options=("--log-level", "warning")) as buyer:
            with buyer.client() as client:
                eventually(lambda: any(peer.why_not is None for peer in client.peers(PeersQuery()).peers))
            yield seller, buyer


@asynccontextmanager
async def asking(seller: NodeProcess, buyer: NodeProcess) -> AsyncIterator[tuple[Asked, Asked]]:
    token = (buyer.data_dir / "admin.token").read_text().strip()
    key, _ = load_or_create_node_key(buyer.data_dir / "node.key")
    await unbounded(buyer.url, token, key.public_key.hex())
    async with aiohttp.ClientSession() as http:
        yield Asked(seller, http), Asked(buyer, http)


async def firsts(local: Asked, bought: Asked, what: str, text: str, most_ms: float | None = None) -> list[Result]:
    """``most_ms``: beside 1.3 times what it takes to ask locally."""
    local.firsts, bought.firsts = [], []
    shares = await ratios(lambda: bought.first(text), lambda: local.first(text))
    name = f"mesh: first token of {what}, {MEDIUM}"
    here, there = local.firsts[1:], bought.firsts[1:]
    most = None if most_ms is None else round(1.3 * median(here) + most_ms, 1)
    return [
        measured(f"{name}, asked locally", here, "ms"),
        measured(f"{name}, bought" + (f" (1.3 × local + {most_ms} ms)" if most_ms else ""), there, "ms", most=most),
        measured(f"{name}, bought ÷ asked locally", shares, "ratio"),
    ]


async def throughput(local: Asked, bought: Asked) -> list[Result]:
    """What vouchers cost: tokens a second of a long answer from its first to its last."""
    local.rates, bought.rates = [], []
    shares = await ratios(lambda: bought.rate(), lambda: local.rate(), PAIRS)
    name = f"mesh: tokens/s of an answer of {LONG_ANSWER} at a fixed rate, {MEDIUM}"
    return [
        measured(f"{name}, asked locally", local.rates[1:], "tokens/s"),
        measured(f"{name}, bought and vouched for", bought.rates[1:], "tokens/s"),
        measured(f"{name}, bought ÷ asked locally", shares, "ratio", least=0.98),
    ]


async def processor(local: Asked, bought: Asked, seller: int, buyer: int) -> list[Result]:
    """Of the nodes' own processes, by their numbers; the model's is another."""
    alone, sold, eaten = [], [], []
    for _ in range(RUNS + 1):
        before = cpu_seconds(seller)
        tokens = await local.tokens()
        alone.append((cpu_seconds(seller) - before) / tokens * 1e6)
        before, buying = cpu_seconds(seller), cpu_seconds(buyer)
        tokens = await bought.tokens()
        sold.append((cpu_seconds(seller) - before) / tokens * 1e6)
        eaten.append((cpu_seconds(buyer) - buying) / tokens * 1e6)
    overhead = [(one + other) / by_itself for by_itself, one, other in zip(alone, sold, eaten, strict=True)]
    name = f"mesh: node CPU a token of answers of {TOKENS}"
    return [
        measured(f"{name}, streamed locally", alone[1:], "µs"),
        measured(f"{name}, metered and sold over {MEDIUM}: provider", sold[1:], "µs"),
        measured(f"{name}, metered and bought over {MEDIUM}: consumer", eaten[1:], "µs"),
        measured(f"{name}, both of them ÷ streamed locally", overhead[1:], "ratio"),
    ]


async def run() -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as home, pair(Path(home), "bench.paced") as (seller, buyer):
        async with asking(seller, buyer) as (local, bought):
            paced = f"a model that takes {FIRST_MS} ms"
            results += await firsts(local, bought, paced, SHORT, 20)
            results += await throughput(local, bought)
            results += await processor(local, bought, seller.process.pid, buyer.process.pid)
    with tempfile.TemporaryDirectory() as home, pair(Path(home)) as (seller, buyer):
        async with asking(seller, buyer) as (local, bought):
            results += await firsts(local, bought, f"a short question to {MODEL}", SHORT)
            results += await firsts(local, bought, f"a question of 200 tokens to {MODEL}", LONG)
    return results
