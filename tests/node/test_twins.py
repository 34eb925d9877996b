"""One key on two machines that are up at the same time (PROTOCOL B9): one of them goes on, and nobody is guilty."""

import asyncio
from pathlib import Path

import pytest

from tests.market.scripted import CARD
from tests.node.mortals import Mortal, Pair, pair, run_stepped
from tirami.core.errors import TiramiError

LENGTH = 24
OWNED = 10_000
ROUNDS = 5
SIGHT_S = 60
PAUSE_S = 2.1
"""So that nobody spends too often in a minute."""
SECOND = "begins its second incarnation within 7 days"


async def tried(found: Pair, node: Mortal) -> str:
    """Have this machine buy an answer as soon as it sees the seller; how that went."""
    found.buyer = node
    async with asyncio.timeout(SIGHT_S):
        while not list(node.mesh.shop.providers(CARD.name, 1)):
            await asyncio.sleep(0.01)
    try:
        await found.buy(LENGTH)
    except TiramiError as error:
        return error.message
    finally:
        await asyncio.sleep(PAUSE_S)
    return "bought"


@pytest.mark.row("L1-05")
@pytest.mark.parametrize("sooner", ["the first", "the second"])
def test_of_two_machines_with_one_key_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sooner: str) -> None:
    """Each is shown what the other signed before it signs anything; providers take one new incarnation a week."""

    async def main() -> None:
        async with pair(tmp_path, monkeypatch) as found:
            found.engine.length = LENGTH
            first, second = found.buyer, found.buyer.twin(tmp_path / "twin")
            await found.bought(LENGTH)  # after the copy was made
            await found.earns(OWNED)
            found.buyer = second
            await found.rise(second)
            turns = (first, second) if sooner == "the first" else (second, first)
            came: dict[Mortal, list[tuple[int, str]]] = {first: [], second: []}
            for _ in range(ROUNDS):
                for node in turns:
                    answer = await tried(found, node)
                    came[node].append((node.incarnation, answer))
            anew = first.incarnation, second.incarnation
            assert 0 < anew[1] < anew[0], "the old copy began anew as it met the seller, the other one after that"
            assert {incarnation for incarnation, answer in came[second] if answer == "bought"} == {anew[1]}
            answers = {answer for incarnation, answer in came[first] if incarnation}
            assert "bought" not in answers, "nor ever again, for a week"
            assert any(SECOND in answer for answer in answers)
            assert {incarnation for incarnation, _ in found.paid()} <= {0, anew[1]}
            await asyncio.sleep(SIGHT_S)
            assert (first.incarnation, second.incarnation) == anew, "there is no race between them"
            for node in (found.seller, first, second):
                assert not node.parts.ledger.state.settings.convicted
                assert not node.promises and node.parts.ledger.state.book.imbalance() == 0
            found.nobody_is_guilty()
            found.lost()  # within its bounds: they cut each other off, for a seller has one connection with a key
            await second.end()

    run_stepped(main())
