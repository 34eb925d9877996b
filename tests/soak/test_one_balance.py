"""The same balance before ten providers at once: what that costs them, and that it is over once they meet.

Processes of one network: ten that sell and know nobody, a rogue (``tirami.testing.rogue``) that buys of all of them at
the same moment and tells each that it has spent nothing elsewhere, and an honest node that comes later and knows all.
Until then no provider can see the lie, and U bounds what each may lose to one payer (PROTOCOL B6); after it the rogue
has proven itself guilty to all (B8), and what its means cover stays paid (B2).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.rows.fairs import MEETING_S, Fair, fair
from tests.rows.mesh import eventually
from tests.rows.rogues import ask
from tirami.api.schemas import BalanceQuery
from tirami.core.errors import EngineFailed

pytestmark = [pytest.mark.soak, pytest.mark.model, pytest.mark.timeout(900)]
PROVIDERS = 10
MOST = 16
LINE, U = 70, 40
"""TRM: the rogue's means, and the most one pair trades in a day: an answer, 27 TRM, and no second one."""
PROVEN_S = 10


def refused(nodes: Fair, why: str) -> bool:
    """Whether none of so many answers as there are sellers, asked for at once, is begun, and this is the reason."""
    (rogue,) = nodes.rogues
    with ThreadPoolExecutor(PROVIDERS) as clients:
        heard = list(clients.map(lambda _: ask(rogue, MOST), nodes.sellers))
    return all(isinstance(one.error, EngineFailed) and why in one.error.message for one in heard)


def served(nodes: Fair) -> float:
    """Answers begun and ended, by all sellers."""
    return sum(seller.metric("tirami_sales_total") for seller in nodes.sellers)


@pytest.mark.row("L1-05")
def test_one_balance_before_ten_providers_at_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with fair(tmp_path, PROVIDERS, 1, LINE, U) as nodes:
        eventually(lambda: refused(nodes, f"at most {U} TRM a day") and all(nodes.earned()), MEETING_S)
        sold, sales = nodes.earned(), served(nodes)
        assert max(sold) <= U < LINE < sum(sold)
        assert not any(nodes.convicted(seller) for seller in nodes.sellers), "each alone cannot know"

        guilty = nodes.rogues[0].key.hex()
        nodes.meet()
        proven_s = eventually(lambda: all(nodes.convicted(member) == {guilty} for member in nodes.honest), MEETING_S)
        nodes.agree()
        honoured = sum(nodes.earned())
        eventually(lambda: refused(nodes, "contradicts itself"), MEETING_S)
        assert served(nodes) == sales, "a convict is served no more"

        fine = ask(nodes.witness, MOST)
        assert (fine.reason, fine.cost) == ("length", fine.worth(MOST)), "honest payers are served as ever"
        eventually(lambda: nodes.witness.balance == -fine.cost)
        nodes.agree()
        assert sum(nodes.earned()) == honoured + fine.cost, "what its means covered stays paid"
        assert honoured == -nodes.witness.client.balance(BalanceQuery(node=guilty)).net_balance
        assert 0 < honoured <= LINE
        lost = sum(sold) - honoured
        assert lost <= PROVIDERS * U
        assert proven_s <= PROVEN_S
        figure = f"{lost} TRM lost of {sum(sold)} sold, at most {max(sold)} by one provider, bound {U} each: U"
        print(f"one line of {LINE} TRM before ten at once: {figure}; proven to all {proven_s:.1f} s after they met")
        record_property("figure", f"{figure}; proven to all in {proven_s:.1f} s, bound {PROVEN_S}")
