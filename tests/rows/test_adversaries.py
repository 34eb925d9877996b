"""Whoever cheats in a metered session gains no more than PROTOCOL B10 and B11 say, seen from outside.

Processes of one network: an honest seller and an honest buyer, a rogue (``tirami.testing.rogue``) that sells to the
one. Who dies is killed elsewhere: a provider in ``test_failover``, a consumer in
``tirami demo --two-nodes``.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.rows.mesh import eventually
from tests.rows.rogues import Heard, Town, town
from tirami.core.errors import BadQuote
from tirami.testing.rogue.provider import TRUE_PIECES

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
MOST = 24
TOLERANCE = 2
"""Tokens by which what is signed for may exceed the canonical ones (B10)."""
SILENCE_S = 20
U = 1_000
Figure = Callable[[str, object], None]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("adversaries")) as made:
        yield made


@pytest.fixture(scope="module")
def fair(found: Town) -> Heard:
    """An answer as it should be, of the false seller."""
    heard = found.bought("honest", MOST)
    assert (heard.reason, heard.tokens, heard.cost) == ("length", MOST, heard.worth(MOST))
    return heard


def paid(found: Town, before: int) -> int:
    return before - found.buyer.balance


# --- a provider cheats -----------------------------------------------------------------------------------------------


@pytest.mark.row("L1-09", part="a quote that is not what was asked costs nothing")
@pytest.mark.parametrize(
    ("cheat", "field"),
    [
        ("price", "price_out"),
        ("model", "model_digest"),
        ("prompt", "prompt_tokens"),
        ("template", "prompt_hash"),
        ("longer", "max_tokens"),
        ("expired", "at_ms"),
        pytest.param("quote-forged", "signature", marks=pytest.mark.row("L1-03", part="a quote somebody else signed")),
        pytest.param("quote-bent", "signature", marks=pytest.mark.row("L1-03", part="a malleable signature")),
    ],
)
def test_a_false_quote_is_not_accepted(found: Town, cheat: str, field: str, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought(cheat)
    assert isinstance(heard.error, BadQuote)
    assert (heard.error.param, heard.text) == (field, "")
    found.at_rest(found.buyer)
    assert paid(found, before) == 0
    record_property("figure", f"{cheat}: 0 TRM paid, bound 0")


@pytest.mark.row("L1-09", part="a provider is paid for the honest pieces only")
@pytest.mark.parametrize("cheat", ["count", "ids", "text", "hash"])
def test_what_does_not_add_up_ends_the_answer(found: Town, fair: Heard, cheat: str, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought(cheat, MOST)
    assert heard.reason == "provider_failed"
    assert fair.text.startswith(heard.text) and heard.pieces == TRUE_PIECES, "nothing unchecked is shown"
    assert heard.cost <= heard.worth(TRUE_PIECES)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    assert found.newest().trm_amount == heard.cost
    record_property("figure", f"{cheat}: {heard.cost} TRM paid, bound {heard.worth(TRUE_PIECES)}")


@pytest.mark.row("L1-09", part="splitting into the smallest tokens earns two tokens")
def test_the_smallest_tokens_earn_two(found: Town, record_property: Figure) -> None:
    """The same text in three to four times as many ids, which all decode to it."""
    before = found.buyer.balance
    heard = found.bought("split", 48)
    claimed = found.false_seller.log_lines("splitting")[-1]
    assert claimed["claimed"] >= 2.5 * claimed["made"]
    canonical = found.bought("honest", heard.pieces)
    assert canonical.text == heard.text
    assert heard.tokens <= canonical.tokens + TOLERANCE
    assert heard.cost == heard.worth(heard.tokens)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost + canonical.cost
    record_property(
        "figure",
        f"split: {heard.tokens} of {claimed['claimed']} claimed tokens paid, bound {canonical.tokens} + {TOLERANCE}",
    )


@pytest.mark.row("L1-09", part="nothing is paid above the ceiling")
def test_more_than_was_asked_for_is_not_paid(found: Town, fair: Heard, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought("greedy", MOST)
    assert heard.reason == "provider_failed"
    assert heard.text == fair.text
    assert heard.cost <= fair.worth(MOST)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    record_property("figure", f"greedy: {heard.cost} TRM paid, bound {fair.worth(MOST)}: the ceiling")


@pytest.mark.row("L1-03", part="a countersignature that is none books nothing")
@pytest.mark.parametrize("cheat", ["trade-forged", "trade-bent"])
def test_a_false_countersignature_is_none(found: Town, cheat: str, record_property: Figure) -> None:
    """What was signed for stays owed, until the rogue's own book tells the trade: it is paid once."""
    before = found.buyer.balance
    heard = found.bought(cheat, MOST)
    assert (heard.reason, heard.cost, heard.bill["trade_id"]) == ("length", heard.worth(MOST), None)
    assert heard.bill["owed_trm"] == heard.cost
    eventually(lambda: paid(found, before) == heard.cost)
    found.at_rest(found.buyer)
    assert paid(found, before) == heard.cost
    record_property("figure", f"{cheat}: {heard.cost} TRM paid, bound {heard.worth(MOST)}: the last voucher")


@pytest.mark.row("L1-03", part="of several countersigned vouchers of a session the highest counts")
def test_an_older_voucher_and_then_the_newer_is_one_bill(found: Town, record_property: Figure) -> None:
    before = found.buyer.balance
    heard = found.bought("older", MOST)
    assert (heard.reason, heard.cost) == ("length", heard.worth(MOST))

    def told() -> list[int]:
        trades = found.buyer.client.trades().trades
        session = next(trade.session for trade in trades if trade.id == heard.bill["trade_id"])
        return sorted(trade.trm_amount for trade in trades if trade.session == session)

    eventually(lambda: len(told()) == 2)
    found.at_rest(found.buyer)
    assert told()[0] < told()[1] == heard.cost == paid(found, before), "not their sum"
    record_property("figure", f"older: {heard.cost} TRM paid of vouchers of {told()} TRM, bound {heard.cost}")
