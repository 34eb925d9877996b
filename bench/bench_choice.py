"""How long it takes to choose a provider among ten thousand, in memory: one peer has changed since the last time."""

import random
import time
from itertools import islice

from tests.market.test_ranking import NOW, signal

from bench.result import Result, measured
from tirami.core.units import Ppm
from tirami.market import PeerRegistry

PEERS, CHOICES, CONNECTED, ASKED = 10_000, 500, 50, 3
MODEL, TOKENS = "model-1", 500


async def run() -> list[Result]:
    chance = random.Random(2)
    registry = PeerRegistry(lambda key: Ppm(key[-1] * 3_000))
    keys = [number.to_bytes(32) for number in range(PEERS)]
    took = []
    for number, key in enumerate(keys):
        news = signal(number, chance)
        began = time.perf_counter()
        registry.ingest(news, NOW)
        took.append((time.perf_counter() - began) * 1e6)
        registry.update_latency(key, chance.randrange(500))
    assert len(registry) == PEERS
    connected = frozenset(chance.sample(keys, CONNECTED))
    best, few = [], []
    for _ in range(CHOICES):
        registry.reconsider(chance.choice(keys))
        began = time.perf_counter()
        next(registry.ranked(MODEL, TOKENS, NOW))
        best.append((time.perf_counter() - began) * 1e6)
        began = time.perf_counter()
        list(islice(registry.ranked(MODEL, TOKENS, NOW, connected.__contains__), ASKED))
        few.append((time.perf_counter() - began) * 1e6)
    name = f"mesh: choice among {PEERS} peers, in memory"
    return [
        measured(f"{name}, the best", best, "µs", most=5_000),
        measured(f"{name}, the best {ASKED} of the {CONNECTED} that are connected", few, "µs", most=5_000),
        measured(f"{name}, a signal taken in", took, "µs"),
    ]
