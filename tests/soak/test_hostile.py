"""Ten thousand frames that mean harm, against a node in a process of its own, over QUIC (issue 4, acceptance 5)."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.load import Crowd, crowd
from tests.soak.hostile import Hostile
from tirami.core.keyfile import load_or_create_node_key
from tirami.net import PeerAddress
from tirami.proto import NetworkFile
from tirami.testing import RunningEngine, start_engine

pytestmark = pytest.mark.soak
FRAMES = 10_000
HONEST = 100
MIB = 1024 * 1024


@pytest.fixture
def engine() -> Iterator[RunningEngine]:
    running = start_engine()
    yield running
    running.stop()


def address_of(node: NodeProcess) -> PeerAddress:
    """Where it listens; it says so a moment after its API does."""
    deadline = time.monotonic() + 30
    while (found := re.search(r'"address":\s*"([^"]+)"', node.log())) is None:
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.1)
    return PeerAddress.parse(found[1])


def rss(node: NodeProcess) -> int:
    """Bytes."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def honest(users: Crowd, count: int) -> list[float]:
    """Seconds of ordinary requests, one after another."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        answer = await users.ask("local", f"[[delay_ms=2]] question {number}", 30)
        assert answer.status == 200, answer
        times.append(time.perf_counter() - began)
    return sorted(times)


async def attack(hostile: Hostile) -> None:
    """Everything at once, again and again, until enough was sent."""
    while hostile.frames < FRAMES:
        await asyncio.gather(
            *(hostile.breaches(20) for _ in range(4)),
            hostile.flood(),
            hostile.half_open(250),
            hostile.slow_readers(250),
            return_exceptions=True,
        )


async def besieged(node: NodeProcess, hostile: Hostile) -> dict[str, float]:
    peak = 0

    async def watched() -> None:
        nonlocal peak
        while True:
            peak = max(peak, rss(node))
            await asyncio.sleep(0.05)

    async with crowd(node.url) as users:
        await hostile.polite()
        await honest(users, 300)  # the node has met a peer and has its caches, before it is weighed
        before, memory = await honest(users, HONEST), rss(node)
        watching, attacking = asyncio.create_task(watched()), asyncio.create_task(attack(hostile))
        during: list[float] = []
        while not attacking.done():
            during += await honest(users, 10)
        await attacking
        watching.cancel()
        after = await honest(users, HONEST)
        during.sort()
    calm = sorted(before + after)
    return {
        "frames": hostile.frames,
        "grown_mib": (peak - memory) / MIB,
        "kept_mib": (rss(node) - memory) / MIB,
        "requests": len(during),
        "calm_p95_ms": 1000 * calm[len(calm) * 95 // 100],
        "besieged_p95_ms": 1000 * during[len(during) * 95 // 100],
    }


@pytest.mark.timeout(900)
def test_ten_thousand_hostile_frames(engine: RunningEngine, tmp_path: Path) -> None:
    env = {"TIRAMI_MESH_ENABLED": "true", "TIRAMI_MESH_BIND": "127.0.0.1:0", "TIRAMI_MESH_LAN": "false"}
    env["TIRAMI_API_RATE_PER_SECOND"] = "9999"
    home = tmp_path / "home"
    with NodeProcess(home, "--upstream", engine.url, env=env) as node:
        network = NetworkFile.regtest(load_or_create_node_key(home / "node.key")[0].public_key)
        figures = asyncio.run(besieged(node, Hostile(address_of(node), network)))
        print("hostile frames over QUIC on loopback: " + ", ".join(f"{k} {v:.1f}" for k, v in figures.items()))
        assert figures["frames"] >= FRAMES
        assert figures["grown_mib"] < 64, figures
        assert figures["besieged_p95_ms"] < 2 * figures["calm_p95_ms"], figures
        assert "Traceback" not in node.log()
