"""A node is put back from a copy made at any moment, and meets those who remember more: nobody is convicted (B9)."""

import asyncio
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.node.mortals import Mortal, Pair, pair, run_stepped
from tirami.core.errors import TiramiError
from tirami.core.units import DAY_MS
from tirami.testing import Link

LENGTH = 24
WEEK_S = 8 * DAY_MS / 1000


async def copied_during(found: Pair, node: Mortal, step: int) -> Path:
    """Its files as they are after so many steps of a session that goes on to its end."""
    copies: list[Path] = []
    found.loop.strike = lambda: copies.append(node.copy("old"))
    found.loop.strike_at = found.loop.steps + step
    await found.bought(LENGTH)
    while not copies:
        await asyncio.sleep(0)
    await found.equal()
    return copies[0]


async def put_back(found: Pair, node: Mortal, copy: Path) -> None:
    await node.end()
    shutil.rmtree(node.home)
    copy.rename(node.home)
    await found.rise(node)


async def later(found: Pair) -> None:
    """A week passes in which nobody is up: a key may lose its counter again, and has its credit back."""
    for node in found.nodes:
        await node.end()
    found.loop.jump(WEEK_S)
    await found.rise()
    await found.meet()


def restored(home: Path, monkeypatch: pytest.MonkeyPatch, seed: int, times: int) -> None:
    draw = Random(seed)

    async def main() -> None:
        async with pair(home, monkeypatch, Link(delay_s=0.002)) as found:
            found.engine.length, found.engine.delay = LENGTH, 0.001
            for _ in range(times):
                node = draw.choice(found.nodes)
                copy = await copied_during(found, node, draw.randrange(150))
                for _ in range(draw.choice((0, 0, 1, 2))):
                    await found.bought(LENGTH)
                await put_back(found, node, copy)
                await found.meet(equal=False)
                try:
                    await found.buy(LENGTH)  # at once: whoever remembers has not told it everything yet
                except TiramiError:
                    pass
                await found.equal()
                found.check(forgotten=True)
                await later(found)
                await found.bought(LENGTH)
                await found.equal()
                found.check(forgotten=True)

    run_stepped(main())


@pytest.mark.row("L1-05")
@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_guilty_who_was_put_back_from_an_old_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    restored(tmp_path, monkeypatch, seed, times=6)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4, 34))
def test_nobody_is_guilty_however_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    restored(tmp_path, monkeypatch, seed, times=10)
