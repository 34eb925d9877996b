"""Records everywhere: lines, losses, partitions, latecomers, all in memory under the virtual clock."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.net.mesh import Grants, Member, converged, in_a_line, members
from tirami.testing import Link, MemoryNetwork, VirtualClock, run_virtually


def meshed(
    home: Path, count: int, link: Link, play: Callable[[list[Member], Grants, MemoryNetwork], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        grants, memory = Grants(clock), MemoryNetwork(seed=1, link=link)

        async with members(home, count, lambda key: memory.endpoint(key.public_key), grants.network, clock) as nodes:
            await play(nodes, grants, memory)

    run_virtually(main())


@pytest.mark.row("L1-04", part="in memory")
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_eight_in_a_line_agree(tmp_path: Path, loss: float) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        for number in range(80):
            await nodes[number % 8].ledger.book_record(grants.next())[1]
        took = await converged(nodes, 80, VirtualClock(), 30)
        print(f"8 in a line, memory, loss {loss}: {took:.2f} s, {memory.traffic}")
        assert took < 5

    meshed(tmp_path, 8, Link(delay_s=0.02, jitter_s=0.01, loss=loss), play)


def test_a_partition_heals(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        in_a_line(nodes)
        left, right = nodes[:5], nodes[5:]
        await nodes[0].ledger.book_record(grants.next())[1]
        await converged(nodes, 1, VirtualClock(), 30)
        memory.partition([[node.key.public_key for node in left]])
        for side in (left, right):
            for _ in range(20):
                await side[0].ledger.book_record(grants.next())[1]
        await converged(left, 21, VirtualClock(), 30)
        await converged(right, 21, VirtualClock(), 30)
        assert left[0].state_hash != right[0].state_hash
        memory.heal()
        took = await converged(nodes, 41, VirtualClock(), 120)
        print(f"a 5/5 partition, memory: healed in {took:.2f} s")
        assert took <= 60

    meshed(tmp_path, 10, Link(delay_s=0.02), play)


def test_who_comes_late_gets_everything(tmp_path: Path) -> None:
    async def play(nodes: list[Member], grants: Grants, memory: MemoryNetwork) -> None:
        first, late = nodes
        for _ in range(300):
            first.ledger.book_record(grants.next())
        await first.ledger.durable()
        late.mesh.keep(first.mesh.address())
        assert await converged(nodes, 300, VirtualClock(), 30) < 5

    meshed(tmp_path, 2, Link(delay_s=0.02), play)
