"""Seller or buyer dies at any step of a session; it comes back, they meet, nothing is lost (L1-09, B7, B9, B11)."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.node.mortals import Pair, pair, run_stepped
from tirami.core.errors import TiramiError
from tirami.testing import Link

LENGTH = 24
AFTER_S = 2
LEAST = 5
PAUSE_S = 10
"""So that nobody spends too often in a minute."""


@dataclass(frozen=True)
class Story:
    """How a session goes where nobody dies."""

    delay: float = 0.0
    """Seconds the engine takes for a token."""
    leave_at: int | None = None
    """The client goes then."""
    fail_after: int | None = None
    link: Link = Link()


STORIES = {
    "whole": Story(),
    "over a slow way": Story(delay=0.003, link=Link(delay_s=0.004, jitter_s=0.003)),
    "the client leaves": Story(delay=0.001, leave_at=13, link=Link(delay_s=0.001)),
    "the engine fails": Story(fail_after=17, link=Link(delay_s=0.002)),
}


async def session(pair: Pair, story: Story) -> None:
    try:
        await pair.buy(LENGTH, story.leave_at)
    except TiramiError:
        pass  # somebody died


async def steps_of(pair: Pair, story: Story) -> int:
    began = pair.loop.steps
    await session(pair, story)
    took = pair.loop.steps - began
    await pair.equal()
    return took


async def mortal_life(found: Pair, story: Story, draw: Random, step: int) -> bool:
    """One death at this step of a session, perhaps another as they meet again; then an answer is bought as ever."""
    deaths = [(found.buyer,), (found.seller,), found.nodes]
    victims = draw.choice(deaths)
    under_way = await found.struck(session(found, story), step, victims)
    await found.back(victims, silent=draw.random() < 0.5)
    if draw.random() < 0.25:
        again = draw.choice(deaths)
        await found.struck(found.meet(), draw.randrange(1, 100), again)
        await found.back(again, silent=draw.random() < 0.5)
    await as_ever(found, story)
    return under_way


async def as_ever(found: Pair, story: Story) -> None:
    """They meet, and nothing is lost; an answer is bought."""
    await found.meet()
    found.check()
    found.engine.fail_after = None
    await found.bought(LENGTH)
    found.engine.fail_after = story.fail_after
    await found.equal()
    found.check()
    await asyncio.sleep(PAUSE_S)


def killed(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, points: int) -> str:
    """A pair's life with so many deaths in it, spread over the steps of a session; what was seen."""
    draw, story, seen = Random(f"{name} {points}"), STORIES[name], []

    async def main() -> None:
        async with pair(home, monkeypatch, story.link) as found:
            found.engine.length, found.engine.delay = LENGTH, story.delay
            found.engine.fail_after = story.fail_after
            steps, under_way = await steps_of(found, story), 0
            for point in range(points):
                step = 1 + (point * steps + draw.randrange(steps)) // points
                under_way += await mortal_life(found, story, draw, step)
            seen.append(
                f"{points} deaths within {steps} steps, {under_way} under way; {len(found.wire.sessions)} sessions,"
                f" {len(found.wire.promises)} promises; a seller lost {found.lost()} TRM at most beyond a prompt"
            )

    run_stepped(main())
    return f"{name}, in memory, virtual time: {seen[0]}"


@pytest.mark.row("L1-09")  # seller or buyer dies at any step over the mesh
@pytest.mark.parametrize("name", STORIES)
def test_nothing_is_lost_whatever_dies_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None], name: str
) -> None:
    record_property("figure", killed(tmp_path, monkeypatch, name, points=15))


async def told(pair: Pair) -> None:
    """A session and what comes of it: the trade is booked at both ends, their heads are published."""
    await session(pair, STORIES["whole"])
    await asyncio.sleep(AFTER_S)


@pytest.mark.row("L1-09")  # once at every commit of a session, at each end
@pytest.mark.parametrize("before", [True, False], ids=["before it", "after it"])
def test_nothing_is_lost_at_any_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None], before: bool
) -> None:
    async def main() -> None:
        async with pair(tmp_path, monkeypatch) as found:
            found.engine.length = LENGTH
            counts = Counter[str]()
            for node in found.nodes:
                node.on_commit(lambda name=node.name: counts.update([name]), before=before)  # type: ignore[misc]
            await told(found)
            commits = dict(counts)
            assert min(commits.values()) >= LEAST, "promise, vouchers, trade, head"
            under_way = 0
            for name, most in commits.items():
                for commit in range(1, most + 1):
                    (victim,) = (node for node in found.nodes if node.name == name)
                    under_way += await found.struck_at_commit(told(found), commit, victim, before=before)
                    await found.back((victim,), silent=False)
                    await as_ever(found, STORIES["whole"])
            assert under_way == sum(commits.values()), "each of them came"
            record_property(
                "figure",
                f"{under_way} deaths {'before' if before else 'after'} a commit each: {commits['buyer']} of the buyer,"
                f" {commits['seller']} of the seller; a seller lost {found.lost()} TRM at most beyond a prompt",
            )

    run_stepped(main())


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STORIES)
def test_nothing_is_lost_at_two_hundred_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    print(killed(tmp_path, monkeypatch, name, points=50))
