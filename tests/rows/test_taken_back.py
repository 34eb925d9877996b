"""A payer takes back what it paid: by a low number that it withheld, or by a total that it understated.

Two honest sellers that do not know each other, and a rogue whose line covers one answer and not two. It buys and pays
one of the one, and buys another of the other, who cannot know of the first. Then they meet. The book is a function of
the records, and covers the lower number (PROTOCOL B2): where that was the one withheld, a trade that had applied at an
honest provider does not apply any more. What a provider can lose so to one payer is U a day (B6), and the signatures
it has convict the payer (B8).
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rows.fairs import MEETING_S, Fair, fair
from tests.rows.mesh import eventually
from tests.rows.rogues import ask, cheat_next
from tirami.cli.demo.pair import Member
from tirami.core.errors import EngineFailed
from tirami.proto import Acceptance, Trade
from tirami.verify import verify_fraud

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
MOST = 16
LINE, U = 50, 40
"""TRM: an answer is 27, so one pair trades one a day, and the line does not cover two."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fair]:
    with fair(tmp_path_factory.mktemp("taken-back"), sellers=2, rogues=2, line=LINE, daily=U) as made:
        yield made


def sold(nodes: Fair, rogue: Member, cheat: str) -> tuple[Member, int]:
    """Who sold this rogue an answer, and the TRM that came of it: its trade is in the seller's book and applies."""
    before = nodes.earned()
    cheat_next(rogue, cheat)
    heard = ask(rogue, MOST)
    assert heard.reason == "length" and heard.text, heard
    eventually(lambda: nodes.earned() != before)
    (sale,) = [
        (seller, now - then)
        for seller, now, then in zip(nodes.sellers, nodes.earned(), before, strict=True)
        if now != then
    ]
    assert sale[1] == heard.cost == heard.worth(MOST)
    return sale


def verified(file: Path) -> dict[str, object]:
    """What ``tirami verify`` says of it, of somebody who has neither node nor key."""
    done = subprocess.run(
        [sys.executable, "-m", "tirami.cli", "verify", str(file), "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


@pytest.mark.row("L1-05")
@pytest.mark.parametrize(("which", "cheat", "loser"), [(0, "hidden", 0), (1, "apart", 1)])
def test_who_takes_back_what_it_paid_is_convicted_and_costs_one_provider_at_most_u(
    nodes: Fair, tmp_path: Path, which: int, cheat: str, loser: int, record_property: Callable[[str, object], None]
) -> None:
    """The withheld low number (``hidden``) un-applies the first answer, the understated total the second."""
    rogue = nodes.rogues[which]
    guilty = rogue.key.hex()
    sales = [sold(nodes, rogue, "honest"), sold(nodes, rogue, cheat)]
    sellers, paid = [seller for seller, _ in sales], [trm for _, trm in sales]
    assert sellers[0] is not sellers[1] and max(paid) <= U < LINE < sum(paid)
    assert not any(guilty in nodes.convicted(seller) for seller in sellers), "each alone cannot know"
    before = [seller.balance for seller in sellers]

    try:
        nodes.meet()
        eventually(lambda: all(guilty in nodes.convicted(member) for member in nodes.honest), MEETING_S)
        nodes.agree()
        lost = [then - seller.balance for seller, then in zip(sellers, before, strict=True)]
        assert lost[loser] == paid[loser], "it had applied, and is taken back"
        assert lost[1 - loser] == 0, "what the means cover stays paid"
        assert 0 < sum(lost) <= U
        for seller in sellers:
            convicts_by_its_debits(seller, guilty, tmp_path / "fraud.json")
        again = ask(rogue, MOST)
        assert isinstance(again.error, EngineFailed) and "contradicts itself" in again.error.message
    finally:
        nodes.witness.stop()
    record_property("figure", f"{cheat}: {sum(lost)} TRM of {paid[loser]} paid taken back, bound {U}: U; convicted")


def convicts_by_its_debits(seller: Member, guilty: str, file: Path) -> None:
    """The proof is made of what the payer signed in the two sales, and of nothing else."""
    (fraud,) = [one for one in seller.client.frauds().frauds if one.guilty == guilty]
    file.write_bytes(seller.client.fraud(fraud.id))
    said = verified(file)
    assert (said["verified"], said["guilty"], said["role"], said["kind"]) == (True, guilty, "payer", "totals")
    records = verify_fraud(file.read_bytes()).records
    assert {type(record) for record in records} == {Acceptance, Trade}
    (acceptance,) = [record for record in records if isinstance(record, Acceptance)]
    below = sum(one.amount for one in records if isinstance(one, Trade) and one.session < acceptance.number)
    assert acceptance.settled < below
