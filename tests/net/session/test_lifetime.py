"""A quote lasts 30 s from when it was sent, by each side's own clock; what the two clocks show does not matter."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.net.session.conftest import Mesh, opened_mesh
from tirami.core.clock import APART_MS
from tirami.core.errors import BadQuote, TiramiError
from tirami.market.quoting import QUOTE_LIFETIME_MS
from tirami.net.session import Purchase
from tirami.testing import VirtualClock, run_virtually
from tirami.testing.loop import EPOCH_MS

HOUR_MS = 3_600_000


def played(home: Path, play: Callable[[Mesh], Coroutine[Any, Any, None]], ahead_ms: int = 0) -> None:
    """With a payer whose clock is ahead."""

    async def main() -> None:
        async with opened_mesh(home, VirtualClock(), payer_clock=VirtualClock(EPOCH_MS + ahead_ms)) as mesh:
            await play(mesh)

    run_virtually(main())


async def answer(mesh: Mesh, bought: Purchase) -> str:
    try:
        async with await mesh.begun(bought) as session:
            return "".join([chunk.text async for chunk in session])
    finally:
        await bought.close()


def left_nothing(mesh: Mesh) -> bool:
    return not (mesh.provider.ledger.state.claims.open or mesh.payer.ledger.state.holds.open or mesh.provider.net)


def test_a_quote_says_thirty_seconds() -> None:
    assert QUOTE_LIFETIME_MS == 30_000


def test_what_is_accepted_within_its_lifetime_is_served(tmp_path: Path) -> None:
    async def play(mesh: Mesh) -> None:
        bought = await mesh.asked(4)
        await asyncio.sleep(29)
        assert await answer(mesh, bought) == "0 1 2 3 "
        await mesh.quiet()
        assert mesh.service.sold == 1

    played(tmp_path, play)


@pytest.mark.parametrize("late_s", [30.5, 31, 100])
def test_what_is_accepted_later_is_refused_by_the_provider(tmp_path: Path, late_s: float) -> None:
    async def play(mesh: Mesh) -> None:
        bought = await mesh.asked(4)
        bought._due_s = math.inf  # a payer that does not count
        await asyncio.sleep(late_s)
        with pytest.raises(TiramiError, match="the quote has expired"):
            await answer(mesh, bought)
        await mesh.quiet()
        assert left_nothing(mesh)

    played(tmp_path, play)


def test_the_payer_itself_sends_no_acceptance_later(tmp_path: Path) -> None:
    async def play(mesh: Mesh) -> None:
        bought = await mesh.asked(4)
        await asyncio.sleep(31)
        with pytest.raises(TiramiError, match="expired before it could be accepted"):
            await answer(mesh, bought)
        assert left_nothing(mesh)

    played(tmp_path, play)


@pytest.mark.parametrize("ahead_ms", [180_000, -180_000, 700_000, -700_000, APART_MS - 60_000, 60_000 - APART_MS])
def test_clocks_that_differ_by_less_than_an_hour_trade(tmp_path: Path, ahead_ms: int) -> None:
    async def play(mesh: Mesh) -> None:
        bought = await mesh.asked(100)
        await asyncio.sleep(29)
        assert (await answer(mesh, bought)).startswith("0 1 2 ")
        await mesh.quiet()
        assert mesh.provider.net == mesh.payer.ledger.books(mesh.payer.key.public_key).settled > 0

    played(tmp_path, play, ahead_ms)


@pytest.mark.parametrize(
    ("ahead_ms", "stands"), [(2 * HOUR_MS, "120 minutes behind"), (-2 * HOUR_MS, "120 minutes ahead")]
)
def test_of_another_hour_nothing_is_bought_and_the_reason_is_the_clock(
    tmp_path: Path, ahead_ms: int, stands: str
) -> None:
    async def play(mesh: Mesh) -> None:
        with pytest.raises(BadQuote, match=f"clock is {stands}") as raised:
            await mesh.asked(4)
        assert raised.value.param == "at_ms"
        assert left_nothing(mesh)

    played(tmp_path, play, ahead_ms)
