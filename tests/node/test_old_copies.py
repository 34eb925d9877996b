"""A node is put back from a copy made at any moment, and meets those who remember more: nobody is convicted (B9)."""

import asyncio
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.node.mortals import RICH, Mortal, Pair, pair, run_stepped
from tirami.core.errors import TiramiError
from tirami.core.units import DAY_MS
from tirami.testing import Link

LENGTH = 24
DAY_S = DAY_MS / 1000
WEEK_S = 8 * DAY_S


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


async def later(found: Pair, seconds: float = WEEK_S) -> None:
    """Time in which nobody is up; after a week a key may lose its counter again, and has its credit back."""
    for node in found.nodes:
        await node.end()
    found.loop.jump(seconds)
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


@pytest.mark.row("L1-05")
def test_who_was_put_back_buys_for_what_it_owns_and_on_credit_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own gate it may buy all along: it is the provider that gives it no credit (B9)."""

    async def main() -> None:
        async with pair(tmp_path, monkeypatch) as found:
            found.engine.length = LENGTH
            copy, key = found.buyer.copy("old"), found.buyer.parts.key.public_key
            await found.bought(LENGTH)
            (price,) = found.paid().values()
            await put_back(found, found.buyer, copy)
            await found.meet()
            assert found.buyer.incarnation > 0
            assert found.buyer.parts.ledger.gate.line(key) == RICH
            begun_s = found.loop.time()
            await is_refused(found)
            await found.earns(2 * price)
            await found.bought(LENGTH)
            await is_refused(found)
            await later(found, begun_s + DAY_S - 60 - found.loop.time())
            await is_refused(found)
            await asyncio.sleep(60)
            await found.bought(LENGTH)
            await found.equal()
            assert list(found.paid().values()) == [price] * 3
            found.nobody_is_guilty()

    run_stepped(main())


async def is_refused(found: Pair) -> None:
    with pytest.raises(TiramiError, match="TRM are promised, 0 are covered"):
        await found.buy(LENGTH)
    await found.equal()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4, 34))
def test_nobody_is_guilty_however_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    restored(tmp_path, monkeypatch, seed, times=10)
